"""What views have covered, published; and whether a view went back.

A view goes back by the promotion of a replica or the restore of a backup: its stored positions
are then below what was published for it. Its epoch rises, so that whoever follows the view
steps back with it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from google.protobuf.message import DecodeError

from millrace.log.marks import at_least
from millrace.log.port import Log, LogReader, Record
from millrace.observe import logs
from millrace.relations import View
from millrace.stores.port import StoredPosition, ViewStore
from millrace.stores.schema import SHARDS
from social.log.v1.control_pb2 import ControlEvent, EpochRaised
from social.log.v1.progress_pb2 import TopicProgress, ViewProgress

logger = logs.logger("streams.progress")

TOPIC = "progress"
READ_RECORDS_MAX = 5_000
READ_WAIT_S = 1.0
Stored = Mapping[tuple[str, int], StoredPosition]


def progress_key(view: str) -> bytes:
    return f"{view}:0-{SHARDS}".encode()


class Published:
    """The newest progress of each view, whoever published it. `refresh` reads on from where it
    was; one a process.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reader: LogReader | None = None
        self._position = 0
        self._refreshing = asyncio.Lock()
        self.newest: dict[str, ViewProgress] = {}

    async def refresh(self) -> None:
        """Fold all that is in the topic now.

        Raises StoreUnavailable rather than to know less: a view that went back unseen would keep
        its epoch.
        """
        async with self._refreshing:
            end = (await self._log.ends(TOPIC))[0]
            if self._position >= end:
                return
            if self._reader is None:
                self._reader = self._log.reader({(TOPIC, 0): self._position})
            while self._position < end:
                records = await self._reader.batch(READ_RECORDS_MAX, READ_WAIT_S)
                for record in records:
                    self._fold(record)
                if not records and self._reader.lag().get((TOPIC, 0), 1) <= 0:
                    # The end may be a record that is kept no longer.
                    self._position = end

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()

    def _fold(self, record: Record) -> None:
        self._position = record.number
        try:
            told = ViewProgress.FromString(record.value or b"")
        except DecodeError:
            logger.warning("undecodable progress", number=record.number)
            return
        self.newest[told.view] = newer(self.newest.get(told.view), told)


@dataclass(slots=True)
class Progress:
    """One view's progress: published when it has changed, and watched for going back.

    `published` is the newest that this process published or has been told of, `others` what
    anybody published.
    """

    view: View
    store: ViewStore
    log: Log
    published: ViewProgress | None = None
    others: Published | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> bool:
        """Publish what is new. True when the view went back, whoever saw it first: its epoch has
        risen then, and who follows it has to read the stored positions again.
        """
        async with self._looking:
            return await self._look(afresh=False)

    async def look_afresh(self) -> bool:
        """As `look`, with what others have published by now: it may be more than this process
        has seen of the view.
        """
        async with self._looking:
            return await self._look(afresh=True)

    async def _look(self, *, afresh: bool) -> bool:
        stored = await self.store.positions(self.view.name)
        if not stored:
            return False
        if afresh and self.others is not None:
            # After the positions: else the view might reach more, tell it and lose it in between.
            await self.others.refresh()
        known = self._known()
        if went_back(stored, known):
            # What was published may be newer than what was read, but not than what is there now.
            stored = await self.store.positions(self.view.name)
        if went_back(stored, known):
            await self._raise_epoch(stored, known.epoch if known else 0)
            stored = await self.store.positions(self.view.name)
        progress, before = _progress(self.view, stored), self.published
        if progress != before:
            key, value = progress_key(self.view.name), progress.SerializeToString()
            await self.log.append(TOPIC, key, value, partition=0)
            self.published = progress
        return before is not None and progress.epoch > before.epoch

    def _known(self) -> ViewProgress | None:
        others = self.others.newest.get(self.view.name) if self.others else None
        return newer(self.published, others) if others else self.published

    async def _raise_epoch(self, stored: Stored, known: int = 0) -> None:
        """The event before the rows: killed in between, the next look finds the view back again.

        `known`: the highest epoch that was published.
        """
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
    """The newest progress of each view, read from the topic's start to its present end. Raises
    StoreUnavailable.
    """
    known = Published(log)
    try:
        await known.refresh()
    finally:
        await known.close()
    return known.newest


def newer(known: ViewProgress | None, told: ViewProgress) -> ViewProgress:
    """What both together say: of one epoch the highest numbers, since a process that was paused
    may tell late what it saw.
    """
    if known is None or known.epoch < told.epoch:
        return told
    if known.epoch > told.epoch:
        return known
    numbers = {topic.topic: topic.numbers for topic in known.topics}
    if all(at_least(topic.numbers, numbers.get(topic.topic, ())) for topic in told.topics):
        return told
    topics = [
        TopicProgress(
            topic=topic.topic,
            numbers=[
                max(pair)
                for pair in zip_longest(topic.numbers, numbers.get(topic.topic, ()), fillvalue=0)
            ],
        )
        for topic in told.topics
    ]
    return ViewProgress(
        view=told.view,
        shard_from=told.shard_from,
        shard_to=told.shard_to,
        epoch=told.epoch,
        topics=topics,
    )


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
