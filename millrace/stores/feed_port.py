"""What a feed store can do: write rows, page them, read statics; keep positions by the minute.

`cassandra` is the real one, `feed_memory` its twin; one contract suite for both. The meaning of
the statics is the feed protocol's (`docs/adr`): rows are an optimisation that positions prove.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from millrace.errors import FailedPrecondition


class FeedRow(NamedTuple):
    """One delivery: `media_id` of `author_id` in the feed of `user_id`."""

    user_id: int
    media_id: int
    author_id: int


@dataclass(frozen=True, slots=True)
class FeedStatics:
    """What is known of a feed as a whole; all 0 and empty for one that nobody has filled.

    `phase`: 2e = rows valid for activation e; odd or 0 = cold. `upto`: edges with version ≤ upto
    are in the rows. `floor`: rows are complete for ids ≥ floor. `cold_edges`: author → version of
    the edge whose push has ended. `hold`, `hold_from`: what stays pulled after a hand-over.
    `phase`, `upto` and `floor` only grow.
    """

    phase: int = 0
    upto: int = 0
    floor: int = 0
    cold_edges: Mapping[int, int] = field(default_factory=dict)
    hold: int = 0
    hold_from: int = 0


class MinutePosition(NamedTuple):
    """One minute of a position's history.

    `number`: the lowest that was saved in the minute (minutes since 1970). `generations`: the
    nodes that were seen alive in it, each with its gossip generation.
    """

    minute: int
    number: int
    generations: Mapping[str, int]


class NodeSeen(NamedTuple):
    """A node of the store as gossip knows it. A heartbeat of a dead node stands still."""

    generation: int
    heartbeat: int


class FeedTables(NamedTuple):
    """Which table of rows is served, and which one beside it is written as well.

    `phase` says what `beside` is: being built, or kept for a way back; "" where there is none.
    `last`: the highest number that a table ever had, so that no name comes twice. `made`: another
    one whenever the whole store was made anew, empty.
    """

    current: str
    beside: str
    phase: str
    last: int
    made: int


BUILDING, KEPT = "building", "kept"
FIRST_TABLE = "feed_by_user"

TopicPartition = tuple[str, int]


def begun_after(now: FeedTables) -> FeedTables:
    """With a new table beside the current one."""
    name = f"{FIRST_TABLE}_{now.last + 1}"
    return now._replace(beside=name, phase=BUILDING, last=now.last + 1)


def tables_changed() -> FailedPrecondition:
    """Somebody else has begun, switched or dropped meanwhile."""
    return FailedPrecondition("the feed's tables were changed by somebody else meanwhile")


class RowStore(Protocol):
    """What delivery and checks need of a feed store: rows of one kind, and positions."""

    async def write(self, rows: Sequence[FeedRow]) -> None:
        """All rows, in any order, any number of times. Returns when all are acknowledged by a
        quorum of the local replicas; after an error some may be written.
        """

    async def has_many(
        self, pairs: Sequence[tuple[int, int]], *, table: str = ""
    ) -> set[tuple[int, int]]:
        """Which of (user_id, media_id) are there, for checks. Any number of pairs. `table`: in
        this one instead of the current.
        """

    async def generations(self) -> dict[str, NodeSeen]:
        """The nodes that the store knows, dead ones included, by host id (addresses may change)."""

    async def save_position(
        self,
        name: str,
        topic: str,
        partition: int,
        number: int,
        minute: int,
        generations: Mapping[str, int],
    ) -> None:
        """`name` has written all of (topic, partition) up to `number`; the last call counts.

        The minute keeps the lowest number of its calls and the last `generations`; history is
        kept for `settings.position_history_minutes`. All of it is one atomic write.
        """

    async def positions(
        self, name: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """The last saved numbers; partitions that never saved one are left out."""

    async def history(self, name: str, topic: str, partition: int) -> list[MinutePosition]:
        """Newest minute first."""


class FeedStore(RowStore, Protocol):
    """Every method raises StoreUnavailable when the store does not answer in time, and its
    subclass TablesGone when its tables are not there, or were made anew since it was opened.

    Rows are read from the current table and written to that and the one beside it. Every process
    learns of a change within `settings.feed_tables_lease_s`, or reads and writes no rows.

    What was acknowledged may still be forgotten by a node that is killed (the last tenth of a
    second; 10 s at a power cut): whoever writes steps back when a node's generation changes.
    """

    async def page(
        self, user_id: int, *, before: int | None = None, limit: int
    ) -> list[tuple[int, int]]:
        """The newest (media_id, author_id) with media_id < `before`, newest first; quorum."""

    async def statics(self, user_id: int) -> FeedStatics: ...

    def scan(self) -> AsyncIterator[FeedRow]:
        """Every row in no order, for checks; a page at a time in memory."""

    async def tables(self) -> FeedTables:
        """As they are now."""

    async def begin_table(self, now: FeedTables) -> FeedTables:
        """A new, empty table beside the current one, which is filled from now on by every write of
        a process that knows of it. Raises FailedPrecondition unless all is as `now` says.
        """

    async def change_tables(self, now: FeedTables, wanted: FeedTables) -> None:
        """Serve another table, or write one no longer. Raises as `begin_table`."""

    async def drop_table(self, table: str) -> None:
        """One that nobody writes any more."""

    async def write_to(self, table: str, rows: Sequence[FeedRow]) -> None:
        """As `write`, to this table alone."""

    async def log_id(self, mine: int) -> int:
        """The log to which rows, statics and positions belong: `mine` for a store that is new."""

    async def close(self) -> None: ...
