"""The twins as a simulation needs them: they can be copied, and they forget by age."""

from collections.abc import Callable, Sequence

from millrace.errors import PoisonEvent
from millrace.log.port import TopicPartition
from millrace.stores.changes import Batch, EdgeChange
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.feed_port import FeedRow
from millrace.stores.memory import MemoryStore
from millrace.stores.schema import ViewSchema

# A power cut costs what the commit log has not synced.
FORGOTTEN_S_MAX = 10.0
# (table, source, target, number) of a change that the store refuses.
RefusedEdge = tuple[str, int, int, int]
Wrong = Callable[[str], None]


class SimulatedViews(MemoryStore):
    """`wrong` hears what must never be. `refused`: edges that this store cannot hold for now."""

    def __init__(self, wrong: Wrong, refused: set[RefusedEdge]) -> None:
        super().__init__()
        self._wrong = wrong
        self._refused = refused

    def copied(self) -> "SimulatedViews":
        """As it is now: a backup, or a replica that lags from here on."""
        copy = SimulatedViews(self._wrong, self._refused)
        # Rows are replaced and never changed, so that they may be shared.
        copy._rows.update({name: dict(rows) for name, rows in self._rows.items()})
        copy._claims.update({name: dict(claims) for name, claims in self._claims.items()})
        copy._positions.update({name: dict(rows) for name, rows in self._positions.items()})
        for name, edges in self._edges.items():
            copied = copy._edges[name]
            copied.state.update(edges.state)
            copied.targets.update({one: list(ids) for one, ids in edges.targets.items()})
            copied.sources.update({one: list(ids) for one, ids in edges.sources.items()})
        return copy

    async def apply(self, schema: ViewSchema, batch: Batch) -> None:
        for change in batch.changes:
            if isinstance(change, EdgeChange):
                edge = (change.table, change.source, change.target, change.number)
                if edge in self._refused:
                    raise PoisonEvent("refused")
        before = dict(self._positions[batch.view])
        await super().apply(schema, batch)
        for key, stored in self._positions[batch.view].items():
            if stored.position < before[key].position:
                self._wrong(
                    f"view {batch.view} fell from {before[key].position} to {stored.position} "
                    f"of {key[0]}/{key[1]} within epoch {stored.epoch}"
                )

    def position(self, view: str, key: TopicPartition) -> int:
        stored = self._positions[view].get(key)
        return stored.position if stored else 0

    def at_positions(self, view: str) -> dict[TopicPartition, int]:
        return {key: stored.position for key, stored in self._positions[view].items()}

    def epoch(self, view: str) -> int:
        return max((stored.epoch for stored in self._positions[view].values()), default=0)


class SimulatedFeeds(MemoryFeedStore):
    """Knows when each row was acknowledged. `now_s`: time that never goes back."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s
        self._written_s: list[float] = []

    async def write(self, rows: Sequence[FeedRow]) -> None:
        await super().write(rows)
        new = len(self._unsynced) - len(self._written_s)
        self._written_s += [self._now_s()] * new

    def forget(self, seconds: float) -> int:
        """The node comes back without what it acknowledged in the last seconds; returns the rows.

        What is older was synced, and is safe for ever.
        """
        since = self._now_s() - seconds
        rows = sum(written >= since for written in self._written_s)
        self.crash(rows)
        self._written_s.clear()
        return rows

    def fresh(self) -> bool:
        """Whether there are rows that a node which dies now may forget."""
        return bool(self._written_s) and self._written_s[-1] >= self._now_s() - FORGOTTEN_S_MAX

    def saved(self, name: str, key: TopicPartition) -> int:
        return self._positions.get((name, *key), 0)
