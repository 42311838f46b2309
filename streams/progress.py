"""What views have covered, published; and whether a view went back.

A view goes back by the promotion of a replica or the restore of a backup: its stored positions
are then below what was published for it. Its epoch rises, so that whoever follows the view
steps back with it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from millrace.log.port import Log
from millrace.observe import logs
from millrace.relations import View
from millrace.stores.port import StoredPosition, ViewStore
from millrace.stores.schema import SHARDS
from social.log.v1.control_pb2 import ControlEvent, EpochRaised
from social.log.v1.progress_pb2 import TopicProgress, ViewProgress

logger = logs.logger("streams.progress")

READ_RECORDS_MAX = 5_000
Stored = Mapping[tuple[str, int], StoredPosition]


def progress_key(view: str) -> bytes:
    return f"{view}:0-{SHARDS}".encode()


@dataclass(slots=True)
class Progress:
    """One view's progress: published when it has changed, and watched for going back.

    `published` is the newest that anybody published, as far as this process knows.
    """

    view: View
    store: ViewStore
    log: Log
    published: ViewProgress | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> bool:
        """Publish what is new. True when the view went back, whoever saw it first: its epoch has
        risen then, and who follows it has to read the stored positions again.
        """
        async with self._looking:
            return await self._look()

    async def _look(self) -> bool:
        stored = await self.store.positions(self.view.name)
        if not stored:
            return False
        if went_back(stored, self.published):
            await self._raise_epoch(stored)
            stored = await self.store.positions(self.view.name)
        progress, before = _progress(self.view, stored), self.published
        if progress != before:
            key, value = progress_key(self.view.name), progress.SerializeToString()
            await self.log.append("progress", key, value, partition=0)
            self.published = progress
        return before is not None and progress.epoch > before.epoch

    async def _raise_epoch(self, stored: Stored) -> None:
        """The event before the rows: killed in between, the next look finds the view back again."""
        known = self.published.epoch if self.published else 0
        epoch = max(known, _epoch(stored)) + 1
        await self._tell(epoch)
        raised = await self.store.raise_epoch(self.view.name, at_least=epoch)
        if raised != epoch:
            # Another projector saw it at the same moment, and its rows came first.
            await self._tell(raised)
        logger.warning("a view went back", view=self.view.name, epoch=raised)

    async def _tell(self, epoch: int) -> None:
        event = ControlEvent(epoch_raised=EpochRaised(view=self.view.name, epoch=epoch))
        await self.log.append(
            "control", self.view.name.encode(), event.SerializeToString(), partition=0
        )


def _epoch(stored: Stored) -> int:
    return max(row.epoch for row in stored.values())


def _progress(view: View, stored: Stored) -> ViewProgress:
    topics = []
    for topic in view.topics:
        numbers = [row.position for (name, _), row in sorted(stored.items()) if name == topic]
        topics.append(TopicProgress(topic=topic, numbers=numbers))
    return ViewProgress(view=view.name, shard_to=SHARDS, epoch=_epoch(stored), topics=topics)


async def published(log: Log) -> dict[str, ViewProgress]:
    """The newest progress of each view, read from the topic's start to its present end.

    Raises StoreUnavailable rather than to return less: a view that went back unseen would keep
    its epoch.
    """
    end = (await log.ends("progress"))[0]
    newest: dict[str, ViewProgress] = {}
    if not end:
        return newest
    reader = log.reader({("progress", 0): 0})
    try:
        while True:
            records = await reader.batch(READ_RECORDS_MAX, 1.0)
            for record in records:
                try:
                    progress = ViewProgress.FromString(record.value or b"")
                except DecodeError:
                    logger.warning("undecodable progress", number=record.number)
                    continue
                newest[progress.view] = progress
            if records and records[-1].number >= end:
                return newest
            if not records and reader.lag().get(("progress", 0), 1) <= 0:
                # The end may be a record that is kept no longer.
                return newest
    finally:
        await reader.close()


def went_back(stored: Stored, progress: ViewProgress | None) -> bool:
    """Whether a view is behind what was published for it in its own epoch, or in an older epoch
    (put back to a backup from before the last time that it went back).
    """
    if progress is None or not stored:
        return False
    if _epoch(stored) != progress.epoch:
        return _epoch(stored) < progress.epoch
    return any(
        (topic.topic, partition) in stored and stored[topic.topic, partition].position < number
        for topic in progress.topics
        for partition, number in enumerate(topic.numbers)
    )
