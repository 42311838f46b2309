"""What views have covered, published; and whether a view went back.

A view goes back by the promotion of a replica or the restore of a backup: its stored positions
are then below what was published for it. Its epoch rises, so that whoever follows the view
steps back with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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

    async def look(self) -> bool:
        """Publish what is new. True when the view went back: its epoch has risen then, and who
        follows it has to read the stored positions again.
        """
        stored = await self.store.positions(self.view.name)
        if not stored:
            return False
        back = went_back(stored, self.published)
        if back:
            await self._raise_epoch(stored)
            stored = await self.store.positions(self.view.name)
        progress = _progress(self.view, stored)
        if progress != self.published:
            key, value = progress_key(self.view.name), progress.SerializeToString()
            await self.log.append("progress", key, value, partition=0)
            self.published = progress
        return back

    async def _raise_epoch(self, stored: Stored) -> None:
        """The event before the rows: killed in between, the next look finds the view back again."""
        known = self.published.epoch if self.published else 0
        epoch = max(known, *(row.epoch for row in stored.values())) + 1
        event = ControlEvent(epoch_raised=EpochRaised(view=self.view.name, epoch=epoch))
        await self.log.append(
            "control", self.view.name.encode(), event.SerializeToString(), partition=0
        )
        await self.store.raise_epoch(self.view.name, at_least=epoch)
        logger.warning("a view went back", view=self.view.name, epoch=epoch)


def _progress(view: View, stored: Stored) -> ViewProgress:
    topics = []
    for topic in view.topics:
        numbers = [row.position for (name, _), row in sorted(stored.items()) if name == topic]
        topics.append(TopicProgress(topic=topic, numbers=numbers))
    epoch = max(row.epoch for row in stored.values())
    return ViewProgress(view=view.name, shard_to=SHARDS, epoch=epoch, topics=topics)


async def published(log: Log) -> dict[str, ViewProgress]:
    """The newest progress of each view, read from the topic's start to its present end."""
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
            if not records or records[-1].number >= end:
                return newest
    finally:
        await reader.close()


def went_back(stored: Stored, progress: ViewProgress | None) -> bool:
    """Whether a view is behind what was published for it in its own epoch."""
    if progress is None or not stored:
        return False
    if max(row.epoch for row in stored.values()) > progress.epoch:
        return False
    return any(
        (topic.topic, partition) in stored and stored[topic.topic, partition].position < number
        for topic in progress.topics
        for partition, number in enumerate(topic.numbers)
    )
