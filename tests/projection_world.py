"""Projections on the memory twins, where stores fail and partitions change hands."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from millrace.clock import ManualClock
from millrace.errors import PoisonEvent, StoreUnavailable
from millrace.log.codec import Event, decode
from millrace.log.dead import DeadLetters
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of
from millrace.log.port import Appended, Record, TopicPartition
from millrace.stores.changes import Batch, EdgeChange
from millrace.stores.memory import MemoryStore
from millrace.stores.port import StoredPosition
from millrace.stores.schema import ViewSchema
from millrace.views import follows
from social.log.v1.dead_pb2 import DeadLetter
from streams.projection import Projection
from tests.histories import History, write

PARTITIONS = [("follows", number) for number in range(3)]
VIEW = follows.VIEW
STEPS_MAX = 20_000


class FailingStore(MemoryStore):
    """Loses some calls before and some after they were done; refuses the edges in `refused`."""

    def __init__(self, seed: int, failing: float, refused: set[tuple[int, int]]) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._failing = failing
        self._refused = refused

    async def apply(self, schema: ViewSchema, batch: Batch) -> None:
        assert all(move.end > move.start for move in batch.moves)
        await self.fail()
        for change in batch.changes:
            assert isinstance(change, EdgeChange)
            if (change.source, change.target) in self._refused:
                raise PoisonEvent("refused")
        await super().apply(schema, batch)
        await self.fail()

    async def positions(self, view: str) -> dict[TopicPartition, StoredPosition]:
        await self.fail()
        return await super().positions(view)

    async def fail(self) -> None:
        await asyncio.sleep(0)
        if self._random.random() < self._failing:
            raise StoreUnavailable("away")


class FailingLog(MemoryLog):
    """Takes some dead letters only when they are tried again."""

    failures = 0

    async def append(self, topic: str, *args: object, **more: object) -> Appended:
        if topic.endswith(".dead") and self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        return await super().append(topic, *args, **more)  # type: ignore[arg-type]


class SharingReader:
    """A member of a group as Kafka's is: what it has been given starts at stored positions."""

    def __init__(self, log: MemoryLog, projection: Projection) -> None:
        self._log = log
        self._projection = projection
        self._next: dict[TopicPartition, int] = {}
        self._unplaced: list[TopicPartition] = []

    def give(self, partitions: Sequence[TopicPartition]) -> None:
        self._unplaced, self._next = list(partitions), {}

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        asked = self._unplaced
        if asked:
            positions = await self._projection.start_positions(asked)
            if asked is not self._unplaced:
                return []
            self._next, self._unplaced = positions, []
        found: list[Record] = []
        for (topic, partition), position in self._next.items():
            found += self._log.after(topic, partition, position, records_max - len(found))
        for record in found:
            self._next[record.topic, record.partition] = record.number
        return found

    def seek(self, topic: str, partition: int, position: int) -> None:
        if (topic, partition) in self._next:
            self._next[topic, partition] = position

    def lag(self) -> dict[TopicPartition, int]:
        return {}

    async def close(self) -> None:
        return


class World:
    """Two projections that share one view; sometimes each believes that all is his."""

    def __init__(self, seed: int, failing: float, refused: set[tuple[int, int]]) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.log = FailingLog(len(PARTITIONS), self.clock)
        self.store = FailingStore(seed, failing, refused)
        self.refused = refused
        self.readers: list[SharingReader] = []
        self.projections: list[Projection] = []

    def start(self) -> list["asyncio.Task[None]"]:
        for _ in range(2):
            dead = DeadLetters(self.log, VIEW.name, self.clock, ratio_max=1, window_events=10_000)
            opener: Any = NothingSealed()
            projection = Projection(VIEW, self.store, self.log, opener, dead, self.clock)
            self.projections.append(projection)
            self.readers.append(SharingReader(self.log, projection))
        self.share()
        return [asyncio.create_task(self._follow(number)) for number in range(2)]

    async def _follow(self, number: int) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self.projections[number].step(
                    self.readers[number], events_max=self.random.randint(1, 20), wait_s=0
                )
            await asyncio.sleep(0)

    def share(self) -> None:
        owners = {partition: self.random.randrange(2) for partition in PARTITIONS}
        for number, reader in enumerate(self.readers):
            reader.give([one for one, owner in owners.items() if owner == number])

    async def live(self) -> None:
        """Some events, some turns of the loop, and now and then other owners."""
        for _ in range(self.random.randint(0, 8)):
            one, other = self.random.randint(1, 6), self.random.randint(1, 6)
            if one == other:
                await self.log.append("follows", key_of(one), b"\xff\xff")
                self.log.failures += self.random.randint(0, 1)
                continue
            kind = self.random.choice(["follow", "unfollow"])
            record = write(History(), (kind, one, other))
            await self.log.append("follows", record.key, record.value)
        for _ in range(self.random.randint(0, 6)):
            await asyncio.sleep(0)
        what = self.random.random()
        if what < 0.2:
            self.share()
        elif what < 0.4:
            # The other does not notice yet.
            self.random.choice(self.readers).give(PARTITIONS)

    async def catch_up(self) -> None:
        self.share()
        for _ in range(STEPS_MAX):
            await asyncio.sleep(0)
            stored = await MemoryStore.positions(self.store, VIEW.name)
            if all(stored[one].position == self.log.end(*one) for one in PARTITIONS):
                return
        raise AssertionError("the view stands still")

    def wanted(self) -> tuple[dict[tuple[int, int], int], set[tuple[int, int]]]:
        """Versions by edge, and (partition, number) of the dead, one event after the other."""
        edges: dict[tuple[int, int], int] = {}
        dead: set[tuple[int, int]] = set()
        for topic, partition in PARTITIONS:
            for record in self.log.after(topic, partition, 0, 10_000):
                try:
                    (change,) = VIEW.project(decode(record))
                except PoisonEvent:
                    dead.add((partition, record.number))
                    continue
                assert isinstance(change, EdgeChange)
                edge = change.source, change.target
                if edge in self.refused:
                    dead.add((partition, record.number))
                elif change.live:
                    edges.setdefault(edge, change.number)
                else:
                    edges.pop(edge, None)
        return edges, dead

    def letters(self) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for _, partition in PARTITIONS:
            for record in self.log.after("follows.dead", partition, 0, 10_000):
                letter = DeadLetter.FromString(record.value or b"")
                found[letter.partition, letter.number] += 1
        return found


class NothingSealed:
    async def open(self, events: Sequence[Event]) -> dict[int, PoisonEvent]:
        return {}
