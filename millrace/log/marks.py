"""The feed's marks: what the planners have promised, one mark a media partition.

A mark is a promise: every post above `planned` is or will be planned with a follower list at or
above `follows_numbers`. Marks never go down. A planner that lost its partition and did not notice
yet may still write one; where any part of it is lower than what stands, it is void.

Not: fences over all marks, and what readers do with them (issue "The feed").
"""

import asyncio
import logging
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from millrace.log.port import LogReader, ReadingLog, Record
from social.log.v1.feed_pb2 import FeedMark

logger = logging.getLogger(__name__)

TOPIC = "feed_marks"
READ_RECORDS_MAX = 2_000
READ_WAIT_S = 1.0


def mark_key(partition: int) -> bytes:
    return partition.to_bytes(4, "big")


class Marks:
    """What one process has folded of the topic. `refresh` reads on from where it was."""

    def __init__(self, log: ReadingLog) -> None:
        self._log = log
        self._reader: LogReader | None = None
        self._position = 0
        self._marks: dict[int, FeedMark] = {}
        self._refreshing = asyncio.Lock()

    def of(self, partition: int) -> FeedMark:
        """The standing mark of a media partition; all 0 where there is none yet."""
        return self._marks.get(partition) or FeedMark(partition=partition)

    async def refresh(self) -> None:
        """Fold all that is in the topic now. Raises StoreUnavailable."""
        async with self._refreshing:
            end = (await self._log.ends(TOPIC))[0]
            while self._position < end:
                if self._reader is None:
                    self._reader = self._log.reader({(TOPIC, 0): self._position})
                for record in await self._reader.batch(READ_RECORDS_MAX, READ_WAIT_S):
                    self.fold(record)

    def fold(self, record: Record) -> None:
        self._position = max(self._position, record.number)
        try:
            mark = FeedMark.FromString(record.value or b"")
        except DecodeError:
            logger.exception("mark %d is undecodable", record.number)
            return
        if rises(self._marks.get(mark.partition), mark):
            self._marks[mark.partition] = mark

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()


def rises(standing: FeedMark | None, mark: FeedMark) -> bool:
    """Whether no part of a mark is below what stands."""
    if standing is None:
        return True
    return (
        mark.planned >= standing.planned
        and mark.delivered >= standing.delivered
        and at_least(mark.follows_numbers, standing.follows_numbers)
        and at_least(mark.active_numbers, standing.active_numbers)
    )


def at_least(numbers: Sequence[int], floor: Sequence[int]) -> bool:
    """Element by element; what is missing counts as 0."""
    return all(
        floor_number <= (numbers[index] if index < len(numbers) else 0)
        for index, floor_number in enumerate(floor)
    )
