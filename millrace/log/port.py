"""What a log can do. `kafka` is the real one, `memory` its twin; one contract suite for both.

Not: groups and rebalancing, which only `millrace/log/reader.py` knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

TRACE_HEADER = "trace"
# A dead letter that is tried again keeps the number that orders it within its row.
ORDER_HEADER = "order"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read. `number` is its own; `headers` are few or none."""

    topic: str
    partition: int
    number: int
    key: bytes
    value: bytes | None
    appended_ms: int = 0
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the log put an event. All in-sync replicas have it."""

    topic: str
    partition: int
    number: int


class LogReader(Protocol):
    """Reads a fixed set of partitions, each from a stored position."""

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        """Up to `records_max` records, in order within each partition; empty after `wait_s`.

        Raises PositionBehind when a position lies beyond the log's end: a reader never resets
        by itself. Raises StoreUnavailable when the log does not answer.
        """

    def seek(self, topic: str, partition: int, position: int) -> None:
        """Go on with the event after this number."""

    async def close(self) -> None: ...


class Log(Protocol):
    @property
    def partitions(self) -> int:
        """Partitions of every topic that is not single."""

    def partitions_of(self, topic: str) -> int: ...

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

        `partition` overrides the partitioner. Raises OutcomeUnknown after `timeout_s` (default
        `settings.append_timeout_s`): the event may or may not be in the log.
        """

    async def ends(self, topic: str) -> list[int]:
        """Number of the last event of each partition; 0 where there is none."""

    def reader(self, positions: Mapping[tuple[str, int], int]) -> LogReader:
        """A reader of these (topic, partition), each going on after the given number."""

    async def close(self) -> None: ...


class GroupReader(LogReader, Protocol):
    """A reader whose partitions a group hands out; stored positions decide where it starts."""

    @property
    def assigned(self) -> Sequence[tuple[str, int]]: ...
