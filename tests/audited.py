"""Histories in a log and their views, both in memory, for the audit to compare."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.clock import ManualClock
from millrace.log.codec import decode, sealed_of
from millrace.log.memory import MemoryLog
from millrace.relations import View
from millrace.stores.changes import Batch, EdgeChange, Move
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.memory import MemoryStore
from millrace.views import VIEWS
from streams.audit import Audit, Bounds, Difference, Finding, ServedByViews, Sources, Told
from streams.audit.relations import Relation
from tests.histories import PARTITIONS, History, write

TOPICS = {topic: view for view in VIEWS for topic in view.topics}


class Written(ServedByViews):
    """Before each read a few of the operations that wait happen, as in live traffic."""

    def __init__(self, world: "AuditedWorld") -> None:
        super().__init__(world.views, world.feeds)
        self._world = world

    async def counts(self, relation: Relation, keys: Sequence[int]) -> dict[int, int]:
        await self._world.go_on()
        return await super().counts(relation, keys)

    async def members(self, relation: Relation, key: int) -> AsyncGenerator[int]:
        await self._world.go_on()
        async for member in super().members(relation, key):
            yield member

    async def feed(self, user_id: int) -> AsyncGenerator[tuple[int, int]]:
        await self._world.go_on()
        async for item in super().feed(user_id):
            yield item


class Heard(Told):
    def __init__(self) -> None:
        self.differences: list[Difference] = []

    def differs(self, difference: Difference) -> None:
        self.differences.append(difference)


@dataclass
class AuditedWorld:
    """`waiting`: operations that happen while the audit reads. `lagging`: views that stay behind
    until the log's events are `project`ed.
    """

    log: MemoryLog = field(default_factory=lambda: MemoryLog(PARTITIONS, ManualClock()))
    views: MemoryStore = field(default_factory=MemoryStore)
    feeds: MemoryFeedStore = field(default_factory=MemoryFeedStore)
    waiting: list[Any] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)
    _history: History = field(default_factory=History)
    _planted: int = 1_000

    async def open(self) -> None:
        for view in VIEWS:
            partitions = {topic: self.log.partitions_of(topic) for topic in view.topics}
            await self.views.open_view(view.schema, partitions, log_id=1)

    async def go_on(self) -> None:
        for _ in range(min(3, len(self.waiting))):
            await self.write(self.waiting.pop(0))

    async def write(self, op: Any) -> None:
        """Into the log, and into its view."""
        record = write(self._history, op)
        await self.log.append(record.topic, record.key, record.value)
        await self.project(TOPICS[record.topic])

    async def project(self, view: View) -> None:
        for (topic, partition), at in (await self.views.positions(view.name)).items():
            for record in self.log.after(topic, partition, at.position, 1_000):
                event = decode(record)
                sealed = sealed_of(event.message)
                event.text = sealed.box if sealed else b""
                move = Move(topic, partition, record.number - 1, record.number)
                changes = list(view.project(event))
                await self.views.apply(view.schema, Batch(view.name, (move,), changes))

    async def plant(self, view: View, table: str, source: int, target: int, *, live: bool) -> None:
        """An edge that no event of the log has begun or ended."""
        self._planted += 1
        wrong = EdgeChange(table, source, target, live, self._planted, self._planted, 0)
        await self.views.apply(view.schema, Batch(view.name, (), [wrong]))

    async def audit(
        self, *checks: str, keys_max: int = 3, members_max: int = 8, sample: int = 0
    ) -> list[Finding]:
        bounds = Bounds(keys_max, members_max, wait_s=5.0, again_s=1.0)
        served = Written(self)
        sources = Sources(self.log, self.views, self.feeds, self.log.clock, served)
        return await Audit(sources, bounds, self.heard, sample=sample).run(checks)
