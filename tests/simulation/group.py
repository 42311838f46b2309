"""Consumer groups: who has which partitions, and members that have not heard of it yet.

As Kafka's: when partitions change hands, a member is told at its next batch at the latest, and
goes on with what it had until then; what it is given starts at the stored positions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.log.memory import MemoryLog
from millrace.log.port import Record, StoredPositions, TopicPartition


class Group:
    """The partitions of some topics, and the members that share them."""

    def __init__(self, name: str, partitions: Sequence[TopicPartition]) -> None:
        self.name = name
        self.partitions = sorted(partitions)
        self.members: dict[str, SharedReader] = {}
        self.owners: dict[TopicPartition, str] = {}
        self.generation = 0

    def join(self, reader: "SharedReader") -> None:
        self.members[reader.member] = reader
        self.share(0b101)

    def leave(self, member: str) -> None:
        """What it had is nobody's until the partitions are shared anew."""
        self.members.pop(member, None)

    def share(self, pattern: int, *, told: bool = False) -> None:
        """Partition i goes to the member that bit i of the pattern names."""
        self.generation += 1
        names = sorted(self.members)
        self.owners = {
            partition: names[(pattern >> index & 1) % len(names)]
            for index, partition in enumerate(self.partitions)
            if names
        }
        for reader in self.members.values():
            if told:
                reader.hear()
            reader.wake()


class SharedReader:
    """A member of a group, as `GroupReader` wants one. `process` is whose member it is."""

    def __init__(self, group: Group, process: Any, log: MemoryLog, stored: StoredPositions) -> None:
        self.group = group
        self.member: str = process.name
        self._process = process
        self._log = log
        self._stored = stored
        self._generation = -1
        self._assigned: list[TopicPartition] = []
        self._unplaced: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._waiting: asyncio.Future[None] | None = None

    @property
    def assigned(self) -> Sequence[TopicPartition]:
        return self._assigned

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        await self._process.reach("log")
        if self.member not in self.group.members:
            self.group.join(self)
        self.hear()
        if self._unplaced:
            await self._place()
        found = self._take(records_max)
        if not found and wait_s > 0:
            await self._wait(wait_s)
            found = self._take(records_max)
        return found

    def hear(self) -> None:
        """Which partitions it has now, if that has changed."""
        if self._generation == self.group.generation:
            return
        self._generation = self.group.generation
        self._assigned = [
            partition for partition, owner in self.group.owners.items() if owner == self.member
        ]
        self._unplaced = set(self._assigned)
        self._next = {}

    def seek(self, topic: str, partition: int, position: int) -> None:
        if (topic, partition) in self._assigned:
            self._unplaced.discard((topic, partition))
            self._next[topic, partition] = position

    def reread(self, topic: str, partition: int) -> None:
        if (topic, partition) in self._assigned:
            self._unplaced.add((topic, partition))

    def repeat(self, records: int) -> None:
        """The last records come once more."""
        for partition, position in self._next.items():
            self._next[partition] = max(position - records, 0)

    def lag(self) -> dict[TopicPartition, int]:
        return {
            partition: self._log.end(*partition) - position
            for partition, position in self._next.items()
        }

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def close(self) -> None:
        return

    async def _place(self) -> None:
        asked, assignment = sorted(self._unplaced), self._assigned
        positions = await self._stored(asked)
        if self._assigned is not assignment:
            return
        for partition in asked:
            if partition in self._unplaced:
                self.seek(*partition, positions[partition])

    def _take(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for partition, position in list(self._next.items()):
            if partition in self._unplaced:
                continue
            taken = self._log.after(*partition, position, records_max - len(found))
            if taken:
                # To the back of the queue: the next batch begins with the others.
                del self._next[partition]
                self._next[partition] = taken[-1].number
                found += taken
            if len(found) >= records_max:
                break
        return found

    async def _wait(self, wait_s: float) -> None:
        """Until one of the topics grows, partitions change hands, or `wait_s` are over."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(wait_s, self.wake)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._waiting = None


def groups_of(log: MemoryLog, topics_by_group: Mapping[str, Sequence[str]]) -> dict[str, Group]:
    groups = {}
    for name, topics in topics_by_group.items():
        partitions = [
            (topic, number) for topic in topics for number in range(log.partitions_of(topic))
        ]
        groups[name] = Group(name, partitions)
    return groups
