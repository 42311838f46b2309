"""Delivery: chunks into rows, and the position that says which chunks are in.

A position moves only after every row of its chunks is acknowledged; it is stored beside the rows,
by the minute, so that delivery can step back when a node of the feed store forgot some. A chunk
that cannot be written waits, for ever if need be, and holds its position; one that cannot be read
is put aside as a dead letter.

Takes store, log and clock as arguments and does no I/O of its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.clock import Clock
from millrace.errors import Bug, PoisonEvent, StoreUnavailable, TablesGone
from millrace.log.codec import decode
from millrace.log.dead import DeadLetters
from millrace.log.port import Record, TopicPartition
from millrace.observe import logs, metrics
from millrace.stores.feed_port import FeedRow, MinutePosition, RowStore
from social.log.v1.feed_pb2 import FeedChunk
from streams.stepping_back import MINUTE_MS, NodeWatch, start_position

logger = logs.logger("streams.delivery")

NAME = "delivery"
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0
ROWS_AT_ONCE_MIN = 100


@dataclass(slots=True)
class _Held:
    """What this process knows of one partition. `at`: delivered up to this number."""

    at: int
    saved: tuple[int, int, Mapping[str, int]] = (0, 0, {})
    seen: dict[str, int] = field(default_factory=dict)
    seen_minute: int = 0


@dataclass(slots=True)
class Delivery:
    """One a process. Lanes may be delivered at the same time, each by one task. `name`: of its
    positions in the store.
    """

    store: RowStore
    dead: DeadLetters
    clock: Clock
    watch: NodeWatch
    name: str = NAME
    _held: dict[TopicPartition, _Held] = field(default_factory=dict)

    async def start_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to go on, stepped back where a node came back. Replaces all that was held.

        The position to start from is saved, with the generations seen now, before it is returned:
        killed from here on, the next start finds the lower number. Raises StoreUnavailable.
        """
        self._held = {}
        nodes = await self.store.generations()
        self.watch.look(nodes, self.clock.monotonic_s())
        # Histories before positions: who steps back meanwhile is then seen in the position at
        # least. The other way round his history would say that there is no need to, and the old
        # position would be saved over his.
        histories = {one: await self.store.history(self.name, *one) for one in partitions}
        stored = await self.store.positions(self.name, partitions)
        for topic, partition in partitions:
            history = histories[topic, partition]
            last = stored.get((topic, partition), 0)
            start = start_position(last, history, nodes)
            if start < last:
                logger.warning("stepping back", topic=topic, partition=partition, to=start, of=last)
            held = self._resume(start, history)
            held.seen.update(self.watch.to_record_first(history))
            await self._save(topic, partition, held)
            self._held[topic, partition] = held
        return {partition: held.at for partition, held in self._held.items()}

    def begin(self, topic: str, partition: int, number: int) -> None:
        """What lies up to `number` is no longer kept by the log."""
        self._held[topic, partition].at = max(self._held[topic, partition].at, number)

    def position(self, topic: str, partition: int) -> int:
        """Delivered up to this number; 0 for a partition that is not held."""
        held = self._held.get((topic, partition))
        return held.at if held else 0

    async def deliver(self, records: Sequence[Record]) -> None:
        """Write the rows of these records, in order within each partition, and move positions.

        Returns only when all is acknowledged. Raises Bug when a record is missing,
        FailedPrecondition when too many cannot be read, TablesGone when the store was emptied:
        then the process must start again from the stored positions.
        """
        new = self._new(records)
        rows: list[FeedRow] = []
        counts: defaultdict[str, int] = defaultdict(int)
        for record in new:
            of_one = await self._rows(record)
            rows += of_one
            counts[record.topic] += len(of_one)
        await self._until_done(rows)
        for record in new:
            if held := self._held.get((record.topic, record.partition)):
                held.at = max(held.at, record.number)
        for topic, count in counts.items():
            metrics.FEED_ROWS_DELIVERED.labels(topic).inc(count)

    def _new(self, records: Sequence[Record]) -> list[Record]:
        """Leaves out what is delivered, or belongs to another process by now."""
        new: list[Record] = []
        ends = {partition: held.at for partition, held in self._held.items()}
        for record in records:
            end = ends.get((record.topic, record.partition))
            if end is None or record.number <= end:
                continue
            if record.number != end + 1:
                raise Bug(f"{record.topic}/{record.partition}: {record.number} follows {end}")
            ends[record.topic, record.partition] = record.number
            new.append(record)
        return new

    async def _rows(self, record: Record) -> Sequence[FeedRow]:
        try:
            event = decode(record)
            rows = rows_of(event.message)
        except PoisonEvent as error:
            metrics.FEED_CHUNKS_UNREADABLE.labels(record.topic).inc()
            logger.exception("unreadable chunk", topic=record.topic, number=record.number)
            await self._put_aside(record, error.message)
            return ()
        for trace in event.trace.split(",") if event.trace else ():
            logger.info("delivering", trace=trace, topic=record.topic, number=record.number)
        return rows

    async def _put_aside(self, record: Record, reason: str) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self.dead.put(record, reason)
                return
            except StoreUnavailable:
                await self.clock.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _until_done(self, rows: Sequence[FeedRow]) -> None:
        """A store that is slow gets less at a time, so that something is always done for good."""
        start, size, delay_s = 0, len(rows), RETRY_FIRST_S
        while start < len(rows):
            try:
                await self.store.write(rows[start : start + size])
            except TablesGone:
                raise
            except StoreUnavailable as error:
                logger.warning("waiting", rows=len(rows) - start, why=error.message)
                size = max(size // 4, ROWS_AT_ONCE_MIN)
                await self.clock.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            else:
                start, size, delay_s = start + size, size * 2, RETRY_FIRST_S

    async def keep(self) -> bool:
        """Save the positions that moved; once a second or so, and at the end.

        False when a node of the store has come back: nothing is saved, and the process must
        start again. Raises StoreUnavailable: nothing is lost, the next call saves.
        """
        positions = {partition: held.at for partition, held in self._held.items()}
        now_s = self.clock.monotonic_s()
        if not self.watch.look(await self.store.generations(), now_s):
            return False
        alive = self.watch.alive(now_s)
        minute = self.clock.now_ms() // MINUTE_MS
        for (topic, partition), number in positions.items():
            held = self._held.get((topic, partition))
            if held is None:
                continue
            self._turn(held, minute)
            held.seen.update(alive)
            if held.saved != (number, minute, held.seen):
                await self._save(topic, partition, held, number)
        return True

    def _resume(self, start: int, history: Sequence[MinutePosition]) -> _Held:
        """Goes on with what an earlier process saw in this very minute."""
        minute = self.clock.now_ms() // MINUTE_MS
        held = _Held(start, seen_minute=minute)
        if history and history[0].minute == minute:
            held.seen.update(history[0].generations)
        return held

    def _turn(self, held: _Held, minute: int) -> None:
        if minute != held.seen_minute:
            held.seen, held.seen_minute = {}, minute

    async def _save(
        self, topic: str, partition: int, held: _Held, number: int | None = None
    ) -> None:
        number = held.at if number is None else number
        seen = dict(held.seen)
        await self.store.save_position(self.name, topic, partition, number, held.seen_minute, seen)
        held.saved = (number, held.seen_minute, seen)


def rows_of(chunk: object) -> list[FeedRow]:
    """Raises PoisonEvent when the parallel lists do not agree."""
    if not isinstance(chunk, FeedChunk):
        raise PoisonEvent("not a chunk")
    lengths = {len(chunk.media_ids), len(chunk.author_ids), len(chunk.follower_ids)}
    if len(lengths) != 1:
        raise PoisonEvent("a chunk whose lists have different lengths")
    return list(map(FeedRow, chunk.follower_ids, chunk.media_ids, chunk.author_ids))
