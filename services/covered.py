"""What views are known to have covered; and that nothing older is served.

A PostgreSQL that was lost, or put back to a backup, answers reads as if all since had never been.
It cannot come to that without its connections breaking. So each new connection is looked at: while
a view there is below the highest position that was ever published for it, in whatever epoch, the
connection is not taken, and calls answer UNAVAILABLE.

Not: noticing that a view went back and raising its epoch (the projector does).
"""

import asyncio
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.log.port import LogReader, ReadingLog, Record
from millrace.observe.logs import logger
from millrace.stores.port import PositionRow
from social.log.v1.progress_pb2 import ViewProgress

TOPIC = "progress"
READ_RECORDS_MAX = 5_000
READ_WAIT_S = 1.0
# While a view is behind, so often a connection is tried; calls in between are refused at once.
RETRY_S = 0.1

_Place = tuple[str, str, int]

log = logger("services.covered")


class Covered:
    """Implements `millrace.stores.postgres.Admission`. One a process; knows what others told
    before it began from the topic, in which the older are kept beside the newest for a week.
    """

    def __init__(self, records: ReadingLog, clock: Clock) -> None:
        self._log = records
        self._clock = clock
        self._reader: LogReader | None = None
        self._position = 0
        self._following: asyncio.Task[None] | None = None
        self._highest: dict[_Place, int] = {}
        self._refused_until_s = float("-inf")
        self._refused = ""

    async def start(self) -> None:
        """Knows all that is published now, and what comes from now on. Raises StoreUnavailable;
        may be called again.
        """
        (end,) = await self._log.ends(TOPIC)
        if self._reader is None:
            self._reader = self._log.reader({(TOPIC, 0): 0})
        while self._position < end:
            await self._read(self._reader)
            if self._reader.lag().get((TOPIC, 0), 1) == 0:
                break
        self._following = asyncio.create_task(self._follow(self._reader))

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()

    def check(self) -> None:
        """Raises StoreUnavailable where a connection was refused a moment ago."""
        if self._clock.monotonic_s() < self._refused_until_s:
            raise StoreUnavailable(self._refused)

    def look(self, stored: Sequence[PositionRow]) -> None:
        """What a new connection sees. Raises StoreUnavailable where it is too low."""
        at = {(row.view, row.topic, row.partition): row.position for row in stored}
        behind = {place[0] for place, number in self._highest.items() if at.get(place, 0) < number}
        if not behind:
            return
        self._refused = f"behind what was served already: {', '.join(sorted(behind))}"
        self._refused_until_s = self._clock.monotonic_s() + RETRY_S
        log.warning("nothing is served", why=self._refused)
        raise StoreUnavailable(self._refused)

    async def _follow(self, reader: LogReader) -> None:
        while True:
            try:
                await self._read(reader)
            except StoreUnavailable as error:
                log.warning("waiting", why=error.message)
                await self._clock.sleep(READ_WAIT_S)

    async def _read(self, reader: LogReader) -> None:
        for record in await reader.batch(READ_RECORDS_MAX, READ_WAIT_S):
            self._take(record)

    def _take(self, record: Record) -> None:
        self._position = record.number
        try:
            told = ViewProgress.FromString(record.value or b"")
        except DecodeError:
            return
        for topic in told.topics:
            for partition, number in enumerate(topic.numbers):
                place = (told.view, topic.topic, partition)
                self._highest[place] = max(self._highest.get(place, 0), number)
