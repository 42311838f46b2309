"""Dead letters: events that one view cannot take. The unit is the event, and it is kept whole.

Above a ratio of them the processor stops: then the deploy is wrong, not the data.
"""

from collections import deque

from millrace.clock import Clock
from millrace.errors import FailedPrecondition
from millrace.log.port import ORDER_HEADER, Log, Record
from millrace.log.topics import DEAD_SUFFIX
from social.log.v1.dead_pb2 import DeadLetter


class DeadRatio:
    """Dead events among the last `window_events`; fewer events count as if that many were there."""

    def __init__(self, ratio_max: float, window_events: int) -> None:
        self._dead_max = ratio_max * window_events
        self._window_events = window_events
        self._seen = 0
        self._dead_at: deque[int] = deque()

    def count(self, events: int) -> None:
        """So many events were taken, dead ones included."""
        self._seen += events
        while self._dead_at and self._dead_at[0] <= self._seen - self._window_events:
            self._dead_at.popleft()

    def count_dead(self) -> None:
        """One more."""
        self._dead_at.append(self._seen)

    def check(self) -> None:
        """Raises FailedPrecondition when one more is one too many."""
        if len(self._dead_at) + 1 > self._dead_max:
            raise FailedPrecondition(
                f"more than {self._dead_max:g} of the last {self._window_events} events are dead",
                reason="TOO_MANY_DEAD_LETTERS",
            )


class DeadLetters:
    """The dead letters of one view in one process. `value_bytes_max`: of an event in the log."""

    def __init__(
        self,
        log: Log,
        view: str,
        clock: Clock,
        *,
        ratio_max: float,
        window_events: int,
        value_bytes_max: int = 512 * 1024,
    ) -> None:
        self._log = log
        self._view = view
        self._clock = clock
        self._ratio = DeadRatio(ratio_max, window_events)
        # The letter is an event as well and holds more than the value.
        self._value_bytes_max = value_bytes_max - 4 * 1024

    async def put(self, record: Record, reason: str) -> None:
        """Write the letter, beside its topic and in its partition.

        Raises FailedPrecondition, and writes nothing, when there are too many; StoreUnavailable
        or OutcomeUnknown as `Log.append` does (a letter that is there twice does no harm).
        """
        self._ratio.check()
        letter = DeadLetter(
            view=self._view,
            reason=reason[:1_000],
            topic=record.topic,
            partition=record.partition,
            number=record.number,
            key=record.key[:1_024],
            at_ms=self._clock.now_ms(),
            order=int.from_bytes(record.headers.get(ORDER_HEADER, b""), "big"),
        )
        if record.value is not None and len(record.value) <= self._value_bytes_max:
            letter.value = record.value
        elif record.value is not None:
            letter.reason += f" (its {len(record.value)} bytes are left in {record.topic} only)"
        await self._log.append(
            record.topic + DEAD_SUFFIX,
            record.key,
            letter.SerializeToString(),
            partition=record.partition,
        )
        # Not before: what is tried again is one letter, however long the log was away.
        self._ratio.count_dead()

    def count(self, events: int) -> None:
        """So many events were taken, dead ones included."""
        self._ratio.count(events)
