"""A served view on PostgreSQL that follows a log in memory, and its replay beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.clock import Clock, SystemClock
from millrace.errors import PoisonEvent
from millrace.log.codec import Event, sealed_of
from millrace.log.memory import MemoryLog
from millrace.log.port import LogReader, Record
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.stores.postgres import PostgresStore
from streams.projection import Projection
from streams.replay import Replayed, ReplayParts, Wanted, replay_view

LOG_ID = 5


class PlainOpener:
    """Boxes that hold their text as it is."""

    async def open(self, events: Sequence[Event]) -> dict[int, PoisonEvent]:
        for event in events:
            box = sealed_of(event.message)
            event.text = b"" if box is None else box.box
        return {}


class Letters:
    """Keeps what a view could not take."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int, int]] = []

    async def put(self, record: Record, reason: str) -> None:
        self.found.append((record.topic, record.partition, record.number))

    def count(self, events: int) -> None:
        pass


@dataclass
class ReplayWorld:
    """`told`: the steps that a replay took, in order."""

    settings: Settings
    store: PostgresStore
    log: MemoryLog
    clock: Clock = field(default_factory=SystemClock)
    told: list[str] = field(default_factory=list)
    letters: Letters = field(default_factory=Letters)

    @property
    def parts(self) -> ReplayParts:
        opener: Any = PlainOpener()
        return ReplayParts(self.settings, self.clock, self.log, LOG_ID, opener, self._tell)

    async def replay(self, view: View, wanted: Wanted | None = None) -> Replayed:
        return await replay_view(view, self.parts, wanted or Wanted())

    async def project(self, view: View, store: ViewStore | None = None) -> None:
        """The served view, or another store's, up to the log's present end."""
        store = store or self.store
        partitions = {topic: self.log.partitions_of(topic) for topic in view.topics}
        await store.open_view(view.schema, partitions, LOG_ID)
        opener: Any = PlainOpener()
        projection = Projection(view, store, self.log, opener, self.letters, self.clock)
        places = [(topic, number) for topic, count in partitions.items() for number in range(count)]
        reader: LogReader = self.log.reader(await projection.start_positions(places))
        while any(projection.at[place] < self.log.end(*place) for place in places):
            await projection.step(reader, events_max=7, wait_s=0)

    async def in_memory(self, view: View) -> MemoryStore:
        """What the view must hold now, by the memory twin."""
        memory = MemoryStore()
        await self.project(view, memory)
        return memory

    def _tell(self, step: str, done: int, total: int) -> None:
        if self.told[-1:] != [step]:
            self.told.append(step)


async def append_all(
    log: MemoryLog, partitions: Mapping[tuple[str, int], Sequence[Record]]
) -> None:
    for (topic, partition), records in sorted(partitions.items()):
        for record in records:
            headers = record.headers
            await log.append(
                topic, record.key, record.value, partition=partition, headers=headers or None
            )
