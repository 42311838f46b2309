"""Builds the feed's rows again in a table beside the served one: from the chunks that the log
keeps; checks that each owed row is there; switches, and keeps the old one. The design and its
reasons: docs/adr/replay-feed.md.

Takes log, stores and clock as arguments. Sends nothing and writes no event: `log` has nothing to
write with. Killed at any moment it goes on where it was, when the same is asked again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from millrace.clock import Clock
from millrace.errors import FailedPrecondition
from millrace.log.dead import DeadLetters
from millrace.log.port import LogReader, ReadingLog, Record, TopicPartition
from millrace.settings import Settings
from millrace.stores.feed_port import (
    BUILDING,
    KEPT,
    FeedRow,
    FeedStore,
    FeedTables,
    MinutePosition,
    NodeSeen,
)
from millrace.stores.port import ViewStore
from millrace.views import lag
from streams.audit.difference import Difference
from streams.audit.look import Bounds, Stores
from streams.audit.owed import look_for_owed
from streams.delivery import Delivery
from streams.stepping_back import NodeWatch
from streams.throttle import Throttle

READ_WAIT_S = 0.5
KEEP_INTERVAL_S = 1.0
# After its lease a process may still be writing what it had begun.
WRITING_S = 2.0
SECONDS_BETWEEN_LOOKS = 2.0

# What is done now, how many chunks of how many. 0 of 0: a step that counts nothing.
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class FeedParts:
    """What a replay of the feed works on."""

    settings: Settings
    clock: Clock
    log: ReadingLog
    views: ViewStore
    feeds: FeedStore
    told: Told


@dataclass(slots=True)
class ReplayedFeed:
    """`rows` were written in `seconds` by this run. `owed`: checked in the new table."""

    table: str
    rows: int = 0
    seconds: float = 0
    owed: int = 0
    missing: Sequence[Difference] = ()
    switched: bool = False

    @property
    def rate(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


async def replay_feed(
    parts: FeedParts,
    *,
    compare: bool,
    switch: bool,
    accept: bool,
    rows_per_s: float,
    share: float = 1.0,
) -> ReplayedFeed:
    """Raises FailedPrecondition while the table of an earlier switch is kept. `rows_per_s`,
    `share`: how it is slowed (`Throttle`).
    """
    tables = await _begin(parts)
    done = ReplayedFeed(tables.beside)
    parts.told("waiting until every process writes both", 0, 0)
    await parts.clock.sleep(parts.settings.feed_tables_lease_s)
    throttle = Throttle(parts.clock, rows_per_s, share)
    await _Replaying(parts, tables.beside, throttle, done).run()
    if compare:
        parts.told("looking for every row that is owed", 0, 0)
        done.owed, done.missing = await _owed(parts, tables.beside)
    if switch and (accept or not done.missing):
        await parts.feeds.change_tables(tables, _exchanged(tables))
        done.switched = True
    return done


async def roll_back(parts: FeedParts) -> None:
    """What was served before the last switch is served again; it never missed a row."""
    tables = await parts.feeds.tables()
    if tables.phase != KEPT:
        raise FailedPrecondition("no old table of the feed is kept")
    await parts.feeds.change_tables(tables, _exchanged(tables))


async def drop_beside(parts: FeedParts) -> str:
    """The old table, or one that is half built: returns its phase, "" where there is none."""
    tables = await parts.feeds.tables()
    if not tables.beside:
        return ""
    await parts.feeds.change_tables(tables, tables._replace(beside="", phase=""))
    # Until nobody reads or writes it any more.
    await parts.clock.sleep(parts.settings.feed_tables_lease_s + WRITING_S)
    await parts.feeds.drop_table(tables.beside)
    return tables.phase


async def status_of(parts: FeedParts) -> str:
    """One line: which table is served, and what lies beside it."""
    tables = await parts.feeds.tables()
    if tables.phase == KEPT:
        return f"{tables.current} is served, the old {tables.beside} is kept and written as well"
    if tables.phase != BUILDING:
        return f"{tables.current} is served, nothing lies beside it"
    ends = await _ends(parts.log)
    at = await parts.feeds.positions(_name(tables.beside), ends)
    covered = f"{sum(at.values()):,} of {sum(ends.values()):,} chunks"
    return f"{tables.current} is served, {tables.beside} is being built: {covered}"


async def _begin(parts: FeedParts) -> FeedTables:
    tables = await parts.feeds.tables()
    if tables.phase == KEPT:
        raise FailedPrecondition(
            f"the old table {tables.beside} of the feed is kept:"
            " `millrace replay feed --rollback` serves it again, --drop-old drops it"
        )
    return tables if tables.beside else await parts.feeds.begin_table(tables)


def _exchanged(tables: FeedTables) -> FeedTables:
    return tables._replace(current=tables.beside, beside=tables.current, phase=KEPT)


def _name(table: str) -> str:
    """Of the replay's positions. No table's name comes twice."""
    return f"replay {table}"


async def _ends(log: ReadingLog) -> dict[TopicPartition, int]:
    return {
        (topic, partition): end
        for topic in lag.CHUNKS
        for partition, end in enumerate(await log.ends(topic))
        if end
    }


class _Replaying:
    """Delivers chunks into one table until all that were there when it began are in, for good."""

    def __init__(
        self, parts: FeedParts, table: str, throttle: Throttle, done: ReplayedFeed
    ) -> None:
        self._parts = parts
        self._throttle = throttle
        self._done = done
        self._store = BesideStore(parts.feeds, table)
        self._name = _name(table)
        self._kept_s = 0.0

    async def run(self) -> None:
        """A node that comes back has forgotten rows: then again from where its history says."""
        # Taken when every process writes both: what it writes from now on is in the table.
        ends = await _ends(self._parts.log)
        while not await self._deliver(ends):
            continue

    async def _deliver(self, ends: Mapping[TopicPartition, int]) -> bool:
        clock = self._parts.clock
        delivery = Delivery(
            self._store,
            _NoLetters(),
            clock,
            NodeWatch(self._parts.settings.node_silent_s),
            self._name,
        )
        start = await delivery.start_positions(list(ends))
        left = {place for place, end in ends.items() if start[place] < end}
        begun_s = self._kept_s = clock.monotonic_s()
        reader = self._parts.log.reader({place: start[place] for place in left})
        try:
            while left:
                if not await self._step(delivery, reader, ends):
                    return False
                left = {place for place in left if delivery.position(*place) < ends[place]}
        finally:
            await reader.close()
            self._done.seconds += clock.monotonic_s() - begun_s
        self._parts.told("waiting until all is on disk", 0, 0)
        settled_s = clock.monotonic_s() + self._parts.settings.replay_settle_s
        while await delivery.keep():
            if clock.monotonic_s() >= settled_s:
                return True
            await clock.sleep(KEEP_INTERVAL_S)
        return False

    async def _step(
        self, delivery: Delivery, reader: LogReader, ends: Mapping[TopicPartition, int]
    ) -> bool:
        """One batch. False when a node came back."""
        clock = self._parts.clock
        settings = self._parts.settings
        rows_max = self._throttle.batch(settings.delivery_records_max * settings.chunk_rows_max)
        records_max = max(rows_max // settings.chunk_rows_max, 1)
        records = await reader.batch(records_max, READ_WAIT_S)
        firsts = {(one.topic, one.partition): one.number for one in reversed(records)}
        for place, number in firsts.items():
            if delivery.position(*place) == 0:
                # Those before the first one are no longer kept.
                delivery.begin(*place, number - 1)
        before = self._store.rows
        await delivery.deliver(records)
        written = self._store.rows - before
        self._done.rows += written
        at = sum(min(delivery.position(*place), end) for place, end in ends.items())
        self._parts.told("delivering chunks", at, sum(ends.values()))
        await self._throttle.spent(written)
        if clock.monotonic_s() - self._kept_s >= KEEP_INTERVAL_S:
            self._kept_s = clock.monotonic_s()
            return await delivery.keep()
        return True


async def _owed(parts: FeedParts, table: str) -> tuple[int, Sequence[Difference]]:
    """Rows that are owed, and those that the table lacks."""
    settings = parts.settings
    bounds = Bounds(1, 1, settings.audit_wait_s, SECONDS_BETWEEN_LOOKS)
    stores = Stores(parts.log, parts.views, BesideStore(parts.feeds, table), parts.clock)
    owed, _, missing = await look_for_owed(_Everybody(), stores, bounds)
    return owed, missing


class _Everybody:
    def __contains__(self, _author_id: object) -> bool:
        return True


class _NoLetters(DeadLetters):
    """A replay writes no event: delivery has put aside what cannot be read."""

    def __init__(self) -> None:
        return

    async def put(self, record: Record, reason: str) -> None:
        return

    def count(self, events: int) -> None:
        return


class BesideStore:
    """Implements `RowStore` with the rows of one table. `rows`: written through it."""

    def __init__(self, feeds: FeedStore, table: str) -> None:
        self._feeds = feeds
        self._table = table
        self.rows = 0

    async def write(self, rows: Sequence[FeedRow]) -> None:
        await self._feeds.write_to(self._table, rows)
        self.rows += len(rows)

    async def has_many(
        self, pairs: Sequence[tuple[int, int]], *, table: str = ""
    ) -> set[tuple[int, int]]:
        return await self._feeds.has_many(pairs, table=table or self._table)

    async def generations(self) -> dict[str, NodeSeen]:
        return await self._feeds.generations()

    async def save_position(
        self,
        name: str,
        topic: str,
        partition: int,
        number: int,
        minute: int,
        generations: Mapping[str, int],
    ) -> None:
        await self._feeds.save_position(name, topic, partition, number, minute, generations)

    async def positions(
        self, name: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        return await self._feeds.positions(name, partitions)

    async def history(self, name: str, topic: str, partition: int) -> list[MinutePosition]:
        return await self._feeds.history(name, topic, partition)
