"""The log in memory: for tests and the simulator. Deterministic; nothing survives the process.

Not: batching, acknowledgements that get lost, retention or compaction.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from millrace.clock import Clock, SystemClock
from millrace.errors import Bug, InvalidRequest, PositionBehind
from millrace.ids import GENERATION_SHIFT
from millrace.log.partitioner import partition_of
from millrace.log.port import (
    NO_HEADERS,
    Appended,
    NewRecord,
    Record,
    StoredPositions,
    TopicPartition,
)
from millrace.log.topics import TOPICS


class MemoryLog:
    """All records of all topics, by partition. Readers wait by the clock that is given."""

    def __init__(
        self,
        partitions: int = 8,
        clock: Clock | None = None,
        *,
        event_bytes_max: int = 512 * 1024,
    ) -> None:
        self._partitions = partitions
        self.clock = clock or SystemClock()
        self._event_bytes_max = event_bytes_max
        self._records: dict[TopicPartition, list[Record]] = {}
        self._growth: asyncio.Future[None] | None = None

    @property
    def partitions(self) -> int:
        return self._partitions

    def partitions_of(self, topic: str) -> int:
        return TOPICS[topic].partitions(self._partitions)

    async def append(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Appended:
        if len(value or b"") > self._event_bytes_max:
            raise InvalidRequest("the event is too large", reason="EVENT_TOO_LARGE")
        partitions = self.partitions_of(topic)
        if partition is None:
            partition = partition_of(key, partitions)
        if not 0 <= partition < partitions:
            raise Bug(f"{topic} has no partition {partition}")
        records = self._records.setdefault((topic, partition), [])
        number = len(records) + 1
        records.append(
            Record(topic, partition, number, key, value, self.clock.now_ms(), headers or NO_HEADERS)
        )
        self._grown()
        return Appended(topic, partition, number)

    async def append_many(self, topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
        last = {}
        for record in records:
            appended = await self.append(
                topic, record.key, record.value, partition=record.partition
            )
            last[appended.partition] = appended.number
        return last

    async def ends(self, topic: str) -> list[int]:
        return [self.end(topic, partition) for partition in range(self.partitions_of(topic))]

    def end(self, topic: str, partition: int) -> int:
        return len(self._records.get((topic, partition), ()))

    def after(self, topic: str, partition: int, position: int, records_max: int) -> list[Record]:
        """The records that follow a position."""
        if position >> GENERATION_SHIFT or position > self.end(topic, partition):
            raise PositionBehind(f"{topic}/{partition}: position {position} is beyond the log")
        return self._records.get((topic, partition), [])[position : position + records_max]

    def reader(self, positions: Mapping[TopicPartition, int]) -> "MemoryReader":
        return MemoryReader(self, positions)

    def group_reader(
        self, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> "MemoryGroupReader":
        """The only member of its group."""
        return MemoryGroupReader(self, topics, stored)

    def duplicate(self, topic: str, partition: int, number: int) -> Record:
        """Append a record again, as a producer without idempotence would."""
        records = self._records[topic, partition]
        records.append(records[number - 1]._replace(number=len(records) + 1))
        self._grown()
        return records[-1]

    def truncate(self, topic: str, partition: int, number: int) -> None:
        """Lose what lies above a number, as a restored broker would."""
        del self._records[topic, partition][number:]

    def growth(self) -> asyncio.Future[None]:
        """Done when the next record is appended. Shared: nobody may cancel it."""
        if self._growth is None:
            self._growth = asyncio.get_running_loop().create_future()
        return self._growth

    def _grown(self) -> None:
        growth, self._growth = self._growth, None
        if growth is not None and not growth.done():
            growth.set_result(None)

    async def close(self) -> None:
        return


class MemoryReader:
    """Takes from its partitions in turn, so that none starves."""

    def __init__(self, log: MemoryLog, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(sorted(positions.items()))

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        found = self._take(records_max)
        if found or wait_s <= 0:
            return found
        deadline = self._log.clock.monotonic_s() + wait_s
        while not found and (left_s := deadline - self._log.clock.monotonic_s()) > 0:
            await self._wait(left_s)
            found = self._take(records_max)
        return found

    def seek(self, topic: str, partition: int, position: int) -> None:
        if (topic, partition) not in self._positions:
            raise Bug(f"this reader does not have {topic}/{partition}")
        self._positions[topic, partition] = position

    def lag(self) -> dict[TopicPartition, int]:
        return {
            (topic, partition): self._log.end(topic, partition) - position
            for (topic, partition), position in self._positions.items()
        }

    async def close(self) -> None:
        return

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for topic, partition in list(self._positions):
            position = self._positions[topic, partition]
            taken = self._log.after(topic, partition, position, records_max - len(found))
            if not taken:
                continue
            # To the back of the queue: the next batch begins with the others.
            del self._positions[topic, partition]
            self._positions[topic, partition] = taken[-1].number
            found += taken
            if len(found) == records_max:
                break
        return found

    async def _wait(self, wait_s: float) -> None:
        """Until the log grows, or the clock says that `wait_s` are over."""
        sleeping = asyncio.ensure_future(self._log.clock.sleep(wait_s))
        try:
            growth = self._log.growth()
            await asyncio.wait({growth, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            # Not by suppressing CancelledError, which would swallow that of the caller, too.
            await asyncio.gather(sleeping, return_exceptions=True)


class MemoryGroupReader(MemoryReader):
    """Has all partitions of its topics, and reads their stored positions before its first batch."""

    def __init__(self, log: MemoryLog, topics: Sequence[str], stored: StoredPositions) -> None:
        super().__init__(log, {})
        self._stored = stored
        self._assigned = sorted(
            (topic, partition) for topic in topics for partition in range(log.partitions_of(topic))
        )
        self._unplaced = set(self._assigned)

    @property
    def assigned(self) -> Sequence[TopicPartition]:
        return self._assigned

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        if self._unplaced:
            asked = sorted(self._unplaced)
            positions = await self._stored(asked)
            self._positions.update({partition: positions[partition] for partition in asked})
            self._unplaced.difference_update(asked)
        return await super().batch(records_max, wait_s)

    def reread(self, topic: str, partition: int) -> None:
        self._unplaced.add((topic, partition))
