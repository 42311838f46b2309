"""Replay equals live: the views built again from the log, beside those that are served."""

from collections.abc import Sequence
from functools import partial

from millrace.auth import sealing
from millrace.auth.keys import Keys
from millrace.clock import SystemClock
from millrace.log.dead import DeadLetters
from millrace.log.kafka import KafkaLog
from millrace.log.port import Record
from millrace.relations import View
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.views import comments, follows, likes, media, saves, users, vault
from millrace.views.data_keys import DataKeys, TextOpener
from streams.projection import Projection

# Keys before the texts that they open.
VIEWS = (
    vault.VIEW, users.VIEW, media.VIEW, follows.VIEW, likes.VIEW, comments.VIEW, saves.VIEW,
)  # fmt: skip


class _NoLetters(DeadLetters):
    """A replay writes no event. Keeps what it could not take."""

    def __init__(self) -> None:
        self.letters: list[Record] = []

    async def put(self, record: Record, reason: str) -> None:
        self.letters.append(record)

    def count(self, events: int) -> None:
        pass


async def replay(log: KafkaLog, keys: Keys, log_id: int) -> tuple[MemoryStore, int]:
    """Every view from nothing to the log's present end, and how many events none could take."""
    store = MemoryStore()
    clock = SystemClock()
    data_keys = DataKeys(
        store,
        log,
        clock,
        partial(sealing.open_secret, keys.master),
        cached_max=10_000,
        wait_s=5.0,
    )
    dead = _NoLetters()
    for view in VIEWS:
        partitions = {topic: log.partitions_of(topic) for topic in view.topics}
        await store.open_view(view.schema, partitions, log_id)
        projection = Projection(
            view, store, log, TextOpener(data_keys, sealing.open_text), dead, clock
        )
        await _to_the_end(projection, log, view)
    return store, len(dead.letters)


async def _to_the_end(projection: Projection, log: KafkaLog, view: View) -> None:
    ends = {
        (topic, partition): end
        for topic in view.topics
        for partition, end in enumerate(await log.ends(topic))
        if end
    }
    reader = log.reader(await projection.start_positions(list(ends)))
    try:
        while any(projection.at[one] < end for one, end in ends.items()):
            await projection.step(reader, events_max=2_000, wait_s=0.2)
    finally:
        await reader.close()


async def differences(live: ViewStore, replayed: MemoryStore) -> list[str]:
    """What the two do not agree on: rows, live edges with their versions, counters."""
    return [one for view in VIEWS for one in await view_differences(view, live, replayed)]


async def view_differences(view: View, live: ViewStore, replayed: MemoryStore) -> list[str]:
    """The same of one view."""
    found: list[str] = []
    for rows in view.schema.rows:
        one = {key: row async for key, row in live.scan_rows(rows)}
        other = {key: row async for key, row in replayed.scan_rows(rows)}
        found += _unequal(rows.name, list(one.items()), list(other.items()))
    for edges in view.schema.edges:
        found += _unequal(
            edges.name,
            [edge async for edge in live.scan_edges(edges)],
            [edge async for edge in replayed.scan_edges(edges)],
        )
        for inverse in (False, True):
            if (edges.inverse_count if inverse else edges.count) == "":
                continue
            found += _unequal(
                f"{edges.name} counts",
                [pair async for pair in live.scan_counts(edges, inverse=inverse)],
                [pair async for pair in replayed.scan_counts(edges, inverse=inverse)],
            )
    return found


def _unequal(name: str, one: Sequence[object], other: Sequence[object]) -> list[str]:
    if list(one) == list(other):
        return []
    left, right = [repr(item) for item in one], [repr(item) for item in other]
    only_live = sorted(set(left) - set(right))[:3]
    only_replayed = sorted(set(right) - set(left))[:3]
    return [f"{name}: only live {only_live}, only replayed {only_replayed}"]
