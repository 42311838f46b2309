"""One topic, two views of it, and one of them that refuses what it is told to: for dead letters.

Each view is followed by a projection of its own, on the twins or on the real log and store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millrace.clock import Clock, SystemClock
from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.dead import DeadLetters
from millrace.log.letters import DEAD, Letter, PassedOver, read_letters
from millrace.log.port import Appended, Log
from millrace.relations import Edge, View
from millrace.stores.changes import Change, EdgeChange
from millrace.stores.memory import MemoryStore
from millrace.stores.port import EdgeRow, ViewStore
from millrace.views import likes
from streams.dead_letters import DeadLetterDesk
from streams.projection import Projection
from tests.histories import History, write
from tests.projection_world import NothingSealed

TOPIC = "likes"
# Another view of the same topic, as a later issue will bring one.
OTHER = replace(likes.LIKES, name="other_likes", inverse="")
LOG_ID = 1


@dataclass
class LettersWorld:
    """`refused`: users whose events view `likes` cannot take, as long as they are in it."""

    log: Log
    store: ViewStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=SystemClock)
    refused: set[int] = field(default_factory=set)
    with_other: bool = True

    def __post_init__(self) -> None:
        self.views = [View("likes", (TOPIC,), self._project, edges=(likes.LIKES,))]
        if self.with_other:
            self.views.append(View("other", (TOPIC,), _project_other, edges=(OTHER,)))
        self.desk = DeadLetterDesk(self.log, self.clock)

    def _project(self, event: Event) -> Sequence[Change]:
        if not event.message.DESCRIPTOR.name.startswith("Media"):
            raise PoisonEvent("not of this topic")
        if event.message.user_id in self.refused:  # type: ignore[attr-defined]
            raise PoisonEvent("refused by the test")
        return likes.VIEW.project(event)

    async def open(self) -> None:
        for view in self.views:
            partitions = {TOPIC: self.log.partitions_of(TOPIC)}
            await self.store.open_view(view.schema, partitions, LOG_ID)

    async def write(self, kind: str, user: int, media: int) -> Appended:
        """`kind`: like or unlike."""
        record = write(History(), (kind, user, media))
        return await self.log.append(TOPIC, record.key, record.value)

    async def catch_up(self) -> None:
        for view in self.views:
            await follow_to_the_end(view, self.log, self.store, self.clock)

    async def dead(self) -> list[Letter]:
        return [one for one in await read_letters(self.log) if one.state == DEAD]

    async def replayed(self) -> MemoryStore:
        """View `likes` built again, as `millrace replay` does: without what became a letter."""
        passed_over = PassedOver(self.log, "likes", [TOPIC])
        await passed_over.refresh()

        def project(event: Event) -> Sequence[Change]:
            known = (event.topic, event.partition, event.number) in passed_over
            return () if known else likes.VIEW.project(event)

        store, view = MemoryStore(), View("likes", (TOPIC,), project, edges=(likes.LIKES,))
        await store.open_view(view.schema, {TOPIC: self.log.partitions_of(TOPIC)}, LOG_ID)
        await follow_to_the_end(view, self.log, store, self.clock)
        return store

    async def edges(self, edge: Edge = likes.LIKES) -> list[EdgeRow]:
        return await edges_of(self.store, edge)


async def edges_of(store: ViewStore, edge: Edge = likes.LIKES) -> list[EdgeRow]:
    """Live edges; fails where a count is not that of its set."""
    found = [row async for row in store.scan_edges(edge.table)]
    counts = {media: count async for media, count in store.scan_counts(edge.table)}
    assert counts == {
        media: sum(row.source == media for row in found) for media in {row.source for row in found}
    }
    return found


def _project_other(event: Event) -> Sequence[Change]:
    found = likes.VIEW.project(event)
    return [one._replace(table=OTHER.name) for one in found if isinstance(one, EdgeChange)]


async def follow_to_the_end(view: View, log: Log, store: ViewStore, clock: Clock) -> None:
    dead = DeadLetters(log, view.name, clock, ratio_max=1, window_events=10_000)
    opener: Any = NothingSealed()
    projection = Projection(view, store, log, opener, dead, clock)
    ends = {(TOPIC, one): end for one, end in enumerate(await log.ends(TOPIC)) if end}
    reader = log.reader(await projection.start_positions(list(ends)))
    try:
        while any(projection.at[one] < end for one, end in ends.items()):
            await projection.step(reader, events_max=50, wait_s=0.1)
    finally:
        await reader.close()
