"""The projection's next batch, read ahead, where the view or its partitions go elsewhere."""

import asyncio
import contextlib
from collections import Counter

from millrace.errors import StoreUnavailable
from millrace.log.partitioner import key_of
from millrace.stores.changes import Batch
from millrace.stores.schema import ViewSchema
from millrace.views import follows
from tests.histories import History, write
from tests.projection_world import PARTITIONS, VIEW, FailingStore, World


class Overlap:
    """One projection that has applied ten follows of partition 0 and has read ten more ahead."""

    def __init__(self, *, refused: set[tuple[int, int]] | None = None) -> None:
        self.world = World(0, 0, refused or set())
        self.events = 0

    async def start(self) -> None:
        world = self.world
        await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
        for task in world.start():
            task.cancel()
        self.projection, self.reader = world.projections[0], world.readers[0]
        await self.write(30)
        self.reader.give(PARTITIONS)
        assert await self.step() == 10
        assert self.projection.ahead == 10

    async def write(self, count: int) -> None:
        for user in range(self.events + 1, self.events + count + 1):
            record = write(History(), ("follow", user, user + 1))
            await self.world.log.append("follows", record.key, record.value, partition=0)
        self.events += count

    async def step(self) -> int:
        return await self.projection.step(self.reader, events_max=10, wait_s=0)

    async def stored(self) -> int:
        return (await self.world.store.positions(VIEW.name))[PARTITIONS[0]].position

    async def check(self) -> None:
        """After as many steps as it takes, the view is what its events make one by one."""
        for _ in range(10):
            await self.step()
        assert await self.stored() == self.events
        edges, dead = self.world.wanted()
        table = follows.FOLLOWS.table
        assert {row[:2]: row.version async for row in self.world.store.scan_edges(table)} == edges
        assert self.world.letters() == Counter(dead)


async def test_the_next_batch_is_read_while_the_store_is_at_work() -> None:
    overlap = Overlap()
    await overlap.start()
    store, projection = overlap.world.store, overlap.projection
    done = store.apply
    seen: list[int] = []

    async def apply(schema: ViewSchema, batch: Batch) -> None:
        while overlap.reader._next[PARTITIONS[0]] < 30:
            await asyncio.sleep(0)
        seen.append(len(batch.changes))
        await done(schema, batch)

    store.apply = apply  # type: ignore[method-assign]
    assert await overlap.step() == 10
    assert (seen, projection.ahead) == ([10], 10)
    await overlap.check()


async def test_what_was_read_ahead_is_dropped_when_another_worker_has_applied_it() -> None:
    overlap = Overlap()
    await overlap.start()
    other, reader = overlap.world.projections[1], overlap.world.readers[1]
    reader.give(PARTITIONS)
    for _ in range(3):
        await other.step(reader, events_max=7, wait_s=0)
    assert await overlap.stored() > 20
    assert await overlap.step() == 0
    assert overlap.projection.ahead == 0
    await overlap.check()


async def test_what_was_read_ahead_is_dropped_when_its_partition_is_placed_anew() -> None:
    """The view has gone back meanwhile: its reader starts there, and nothing is left out."""
    overlap = Overlap()
    await overlap.start()
    backup = FailingStore(0, 0, set())
    await backup.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    overlap.projection.store = overlap.world.store = backup
    overlap.reader.give(PARTITIONS)
    await overlap.projection.start_positions(PARTITIONS)
    assert await overlap.step() == 0
    assert await overlap.stored() == 0
    await overlap.check()


async def test_a_partition_that_comes_back_starts_where_another_worker_left_it() -> None:
    overlap = Overlap()
    await overlap.start()
    overlap.reader.give(PARTITIONS[1:])
    other, reader = overlap.world.projections[1], overlap.world.readers[1]
    reader.give(PARTITIONS[:1])
    await other.step(reader, events_max=15, wait_s=0)
    assert await overlap.step() == 0
    overlap.reader.give(PARTITIONS)
    await overlap.check()


async def test_poison_that_was_read_ahead_is_one_dead_letter() -> None:
    overlap = Overlap(refused={(15, 16)})
    await overlap.start()
    await overlap.world.log.append("follows", key_of(1), b"\xff\xff", partition=0)
    overlap.events += 1
    overlap.world.log.failures = 2
    await overlap.check()
    assert overlap.world.letters().total() == 2


async def test_a_store_that_goes_away_while_more_is_read_costs_nothing() -> None:
    overlap = Overlap()
    await overlap.start()
    overlap.reader.give(PARTITIONS)
    calls = iter(range(1_000))

    async def fail() -> None:
        if next(calls) in (0, 1, 3):
            raise StoreUnavailable("away")

    overlap.world.store.fail = fail  # type: ignore[method-assign]
    await overlap.write(20)
    for _ in range(6):
        with contextlib.suppress(StoreUnavailable):
            await overlap.step()
    await overlap.check()
