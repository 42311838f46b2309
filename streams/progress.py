"""What views have covered, published; and whether a view went back.

A view goes back by the promotion of a replica or the restore of a backup: its stored positions
are then below what was published for it. Its epoch rises, so that whoever follows the view
steps back with it.
"""

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
class ProgressPublisher:
    """Publishes one view's positions when they have changed since the last time."""

    view: View
    store: ViewStore
    log: Log
    _last: dict[tuple[str, int], StoredPosition] = field(default_factory=dict)

    async def publish(self) -> None:
        stored = await self.store.positions(self.view.name)
        if not stored or stored == self._last:
            return
        value = _progress(self.view, stored).SerializeToString()
        await self.log.append("progress", progress_key(self.view.name), value, partition=0)
        self._last = stored


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


async def raise_epoch_if_back(view: View, store: ViewStore, log: Log) -> bool:
    """Called before a projector starts on a view. Repeating it after a crash is harmless."""
    stored = await store.positions(view.name)
    if not went_back(stored, (await published(log)).get(view.name)):
        return False
    # The event before the row: killed in between, the next start finds the view back again.
    epoch = max(row.epoch for row in stored.values()) + 1
    event = ControlEvent(epoch_raised=EpochRaised(view=view.name, epoch=epoch))
    await log.append("control", b"", event.SerializeToString(), partition=0)
    await store.raise_epoch(view.name)
    logger.warning("a view went back", view=view.name, epoch=epoch)
    return True
