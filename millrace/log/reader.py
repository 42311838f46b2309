"""Reading Kafka from stored positions: a fixed set of partitions, or a share in a group.

The stored position decides where reading starts, never Kafka's idea of it: nothing is ever
committed to the group, and nothing is reset (`auto_offset_reset="none"`; with another value a
position beyond the log's end would be moved without a word).

Not: what is done with the records; `millrace/log/following.py` has the consumer itself.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import TopicPartition as BrokerPartition

from millrace.errors import Bug, FailedPrecondition
from millrace.log.following import Following
from millrace.log.port import Record, StoredPositions, TopicPartition
from millrace.settings import Settings

# So often in ten sessions, and it is no accident that the group has forgotten a member.
_EXPELLED_MAX = 3


class KafkaReader:
    """Reads the partitions that it was given, with no group. Connects with the first batch."""

    def __init__(self, settings: Settings, positions: Mapping[TopicPartition, int]) -> None:
        self._following = Following(settings)
        self._positions = dict(positions)
        self._started = False

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        if not self._started:
            await self._following.start()
            self._following.assign(self._positions)
            self._started = True
        return await self._following.fetch(records_max, wait_s)

    def seek(self, topic: str, partition: int, position: int) -> None:
        if (topic, partition) not in self._positions:
            raise Bug(f"this reader does not have {topic}/{partition}")
        self._positions[topic, partition] = position
        if self._started:
            self._following.place(topic, partition, position)

    def lag(self) -> dict[TopicPartition, int]:
        return self._following.lag()

    async def close(self) -> None:
        await self._following.close()


class KafkaGroupReader(ConsumerRebalanceListener):
    """A member of a group, with a static name: `settings.worker`.

    A member that is killed and comes back in time has its partitions at once; one that stays
    away loses them to the others after `settings.group_session_ms`. All topics' partitions of
    one number go to one member, so that what belongs to one owner is read in one place.
    """

    def __init__(
        self, settings: Settings, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> None:
        self._topics = tuple(topics)
        self._stored = stored
        self._following = Following(
            settings,
            group_id=settings.topic_prefix + group,
            group_instance_id=f"{group}-{settings.worker}",
            session_timeout_ms=settings.group_session_ms,
            # Members learn of a change by their heartbeat.
            heartbeat_interval_ms=min(settings.group_session_ms // 4, 1_000),
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        self._started = False
        self._assigned: list[TopicPartition] = []
        self._unplaced: set[TopicPartition] = set()
        self._changed = asyncio.Event()
        self._member_id = ""
        self._expelled_s: deque[float] = deque(maxlen=_EXPELLED_MAX)
        self._expelled_window_s = 10 * settings.group_session_ms / 1000

    @property
    def assigned(self) -> Sequence[TopicPartition]:
        return self._assigned

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        if not self._started:
            await self._following.start()
            self._following.subscribe(self._topics, self)
            self._started = True
        self._check_name()
        if not self._assigned:
            await self._wait_for_change(wait_s)
        if self._unplaced:
            await self._place()
        if not self._assigned:
            self._following.check()
            return []
        return await self._following.fetch(records_max, wait_s)

    def seek(self, topic: str, partition: int, position: int) -> None:
        """Of a partition that was taken away meanwhile: nothing, its new owner has the position."""
        if (topic, partition) in self._assigned:
            self._unplaced.discard((topic, partition))
            self._following.place(topic, partition, position)

    def reread(self, topic: str, partition: int) -> None:
        if (topic, partition) in self._assigned:
            self._unplaced.add((topic, partition))

    def lag(self) -> dict[TopicPartition, int]:
        return self._following.lag()

    async def close(self) -> None:
        """The group keeps this member's place until its session is over."""
        await self._following.close()

    async def on_partitions_revoked(self, revoked: Iterable[BrokerPartition]) -> None:
        """Called by aiokafka when partitions begin to change hands."""
        self._assigned = []
        self._unplaced.clear()
        self._following.forget()

    async def on_partitions_assigned(self, assigned: Iterable[BrokerPartition]) -> None:
        """Called by aiokafka, which swallows errors: so positions are read in `batch`."""
        self._assigned = sorted(self._following.named(partition) for partition in assigned)
        self._unplaced = set(self._assigned)
        self._changed.set()
        if self._member_id and self._member_id != self._following.member_id:
            self._expelled_s.append(time.monotonic())
        self._member_id = self._following.member_id

    def _check_name(self) -> None:
        """Of two members with one name each expels the other, and aiokafka joins again and again.

        A member that was away for longer than its session is expelled as well, but seldom.
        """
        times_s = self._expelled_s
        if len(times_s) == _EXPELLED_MAX and times_s[-1] - times_s[0] < self._expelled_window_s:
            raise FailedPrecondition(
                "another process is the worker of this name", reason="WORKER_NAME_TAKEN"
            )

    async def _wait_for_change(self, wait_s: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _place(self) -> None:
        """Start the unplaced partitions at their stored positions."""
        asked = sorted(self._unplaced)
        assignment = self._assigned
        positions = await self._stored(asked)
        if self._assigned is not assignment:
            return
        for topic, partition in asked:
            if (topic, partition) in self._unplaced:
                self.seek(topic, partition, positions[topic, partition])
