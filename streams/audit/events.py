"""Passes over the log: the events that the views have taken, from one position to another.

What became a dead letter is passed over, as the view did (`millrace.log.counted`).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence

from google.protobuf.message import DecodeError

from millrace.clock import Clock
from millrace.errors import FailedPrecondition, PoisonEvent, StoreUnavailable
from millrace.log.codec import Event, decode
from millrace.log.counted import Counted
from millrace.log.port import ReadingLog, Record, TopicPartition
from millrace.log.topics import DEAD_SUFFIX
from millrace.stores.port import ViewStore
from social.log.v1.dead_pb2 import DeadLetter

Ends = dict[TopicPartition, int]

BATCH_RECORDS = 5_000
BATCH_WAIT_S = 0.5
EMPTY_BATCHES_MAX = 20
POLL_S = 0.1
# Numbers of dead letters are held in memory; where there are more, the views are wrong at large.
DEAD_MAX = 100_000


class Events:
    """The log of one look. Memory: the dead letters."""

    def __init__(self, log: ReadingLog) -> None:
        self._log = log
        self._dead: set[tuple[str, int, int]] = set()
        self._dead_at: Ends = {}

    async def ends(self, topics: Sequence[str]) -> Ends:
        return {
            (topic, partition): end
            for topic in topics
            for partition, end in enumerate(await self._log.ends(topic))
        }

    async def learn_dead(self, topics: Sequence[str]) -> int:
        """Which events are dead letters by now; how many there are."""
        dead = [topic + DEAD_SUFFIX for topic in topics]
        ends = await self.ends(dead)
        async for record in records(self._log, self._dead_at, ends):
            try:
                letter = DeadLetter.FromString(record.value or b"")
            except DecodeError:
                continue
            self._dead.add((letter.topic, letter.partition, letter.number))
            if len(self._dead) > DEAD_MAX:
                raise FailedPrecondition(
                    f"more than {DEAD_MAX:,} dead letters: look at them before any audit",
                    reason="TOO_MANY_DEAD_LETTERS",
                )
        self._dead_at |= ends
        return len(self._dead)

    async def all(
        self, topics: Sequence[str], start: Mapping[TopicPartition, int], ends: Ends
    ) -> AsyncGenerator[Event]:
        """Topic by topic, in the order given; within each in the order of each partition."""
        for topic in topics:
            counted = Counted(self._dead)
            of_topic = {place: end for place, end in ends.items() if place[0] == topic}
            async for record in records(self._log, start, of_topic):
                try:
                    event = decode(record)
                except PoisonEvent:
                    continue
                if counted.counts(event):
                    yield event


async def records(
    log: ReadingLog, start: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncGenerator[Record]:
    """Those after `start` (0 where it says nothing) up to `ends`. Raises StoreUnavailable when the
    log stops before them.
    """
    left = {place: end for place, end in ends.items() if end > start.get(place, 0)}
    if not left:
        return
    reader = log.reader({place: start.get(place, 0) for place in left})
    silent = 0
    try:
        while left:
            batch = await reader.batch(BATCH_RECORDS, BATCH_WAIT_S)
            silent = 0 if batch else silent + 1
            if silent:
                # The last record before an end may be one that is kept no longer.
                ahead = reader.lag()
                left = {place: end for place, end in left.items() if ahead.get(place, 1) > 0}
            if silent > EMPTY_BATCHES_MAX:
                raise StoreUnavailable(f"the log stopped before its end: {sorted(left)}")
            for record in batch:
                place = (record.topic, record.partition)
                if record.number <= ends[place]:
                    yield record
                if record.number >= ends[place]:
                    left.pop(place, None)
    finally:
        await reader.close()


async def covered(
    views: ViewStore, names: Sequence[str], ends: Ends, clock: Clock, wait_s: float
) -> None:
    """Until every view is at or above the ends. Raises StoreUnavailable after `wait_s`."""
    deadline_s = clock.monotonic_s() + wait_s
    for name in names:
        while behind := await _behind(views, name, ends):
            if clock.monotonic_s() >= deadline_s:
                raise StoreUnavailable(f"view {name} is still {behind} events behind")
            await clock.sleep(POLL_S)


async def _behind(views: ViewStore, name: str, ends: Ends) -> int:
    stored = await views.positions(name)
    if not stored:
        raise FailedPrecondition(f"view {name} was never opened")
    return sum(max(ends.get(place, 0) - row.position, 0) for place, row in stored.items())
