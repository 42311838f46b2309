"""What a log can do. `kafka` is the real one, `memory` its twin; one contract suite for both."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

TRACE_HEADER = "trace"
# A dead letter that is tried again keeps the number that orders it within its row.
ORDER_HEADER = "order"

TopicPartition = tuple[str, int]
# Asked where views are, by (topic, partition): the numbers after which their readers go on.
StoredPositions = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]

NO_HEADERS: Mapping[str, bytes] = MappingProxyType({})


class Record(NamedTuple):
    """One record as read. `number` is its own; `headers` are few or none."""

    topic: str
    partition: int
    number: int
    key: bytes
    value: bytes | None
    appended_ms: int = 0
    headers: Mapping[str, bytes] = NO_HEADERS


class NewRecord(NamedTuple):
    """One event of many to append. `partition` overrides the partitioner."""

    key: bytes
    value: bytes | None
    partition: int | None = None


class Appended(NamedTuple):
    """Where the log put an event. All in-sync replicas have it."""

    topic: str
    partition: int
    number: int


class LogReader(Protocol):
    """Reads partitions, each from a stored position. One batch at a time."""

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        """Up to `records_max` records, in order within each partition; empty after `wait_s`.

        Raises PositionBehind when a position lies beyond the log's end, or before the oldest
        record that is kept: a reader never resets by itself. The position "nothing read yet"
        (0) is the exception: it begins with the oldest record that is kept. Raises
        StoreUnavailable when the log does not answer; the next call tries again.
        """

    def seek(self, topic: str, partition: int, position: int) -> None:
        """Go on with the event after this number."""

    def lag(self) -> dict[TopicPartition, int]:
        """Records that lie ahead, by partition, as of the last answer; unknown ones left out."""

    async def close(self) -> None: ...


class GroupReader(LogReader, Protocol):
    """A reader whose partitions a group hands out; stored positions decide where it starts.

    When partitions change hands, all of this member's are taken and then handed out anew, and
    the positions of those that it has are read again, even of those that it kept.
    `batch` raises FailedPrecondition when a newer process has this member's name.
    """

    @property
    def assigned(self) -> Sequence[TopicPartition]:
        """Sorted; empty while partitions change hands."""

    def reread(self, topic: str, partition: int) -> None:
        """Ask for the stored position before the next batch (after PositionMoved)."""


class ReadingLog(Protocol):
    """The log of those who only read it: a replay, a check. It has nothing to write with."""

    @property
    def partitions(self) -> int:
        """Partitions of every topic that is not single."""

    def partitions_of(self, topic: str) -> int: ...

    async def ends(self, topic: str) -> list[int]:
        """Number of the last event of each partition; 0 where there is none.

        Asks the log each time. Raises StoreUnavailable.
        """

    def reader(self, positions: Mapping[TopicPartition, int]) -> LogReader:
        """A reader of these (topic, partition), each going on after the given number."""

    async def close(self) -> None:
        """Readers are closed by whoever has them."""


class Log(ReadingLog, Protocol):
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
        """Write one event and wait for its acknowledgement by the in-sync replicas.

        `partition` overrides the partitioner. Raises OutcomeUnknown when no acknowledgement came
        within `timeout_s` (default `settings.append_timeout_s`): the event is in the log, or
        will be, or never will be. Raises StoreUnavailable when it certainly is not: the log
        took nothing. Raises InvalidRequest for an event larger than
        `settings.append_batch_bytes_max`.
        """

    async def append_many(self, topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
        """Write many events, in order within each partition, much faster than one by one.

        Returns the number of the last one by partition. Raises OutcomeUnknown when the log
        stops acknowledging for `settings.append_timeout_s`: some are in the log, some not.
        """

    def group_reader(
        self, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> GroupReader:
        """A member of a group that shares the partitions of these topics."""
