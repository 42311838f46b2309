"""A switch under readers and writers; and a replay that ends at any of its steps."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

import asyncpg
import pytest

from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of
from millrace.settings import Settings
from millrace.stores.changes import EdgeChange
from millrace.stores.edge_columns import EdgeColumns
from millrace.stores.postgres import PostgresStore
from millrace.stores.postgres_beside import LOADING, Beside, connect
from millrace.stores.postgres_load import EdgeLoad
from millrace.views import VIEW_BY_NAME, likes
from millrace.views.likes import LIKES
from streams.projection import Projection
from streams.replay import Wanted, replay_view, roll_back
from tests import histories
from tests.histories import History, write
from tests.replay_world import LOG_ID, PlainOpener, ReplayWorld
from tests.replayed import view_differences

SWITCHES = 20
READERS = 4
VIEW = likes.VIEW
MEDIA_ID = 7


@pytest.fixture
async def world(postgres_settings: Settings, postgres_store: PostgresStore) -> ReplayWorld:
    small = postgres_settings.model_copy(
        update={"replay_batch_events": 20, "replay_memory_mib": 1, "project_dead_ratio_max": 1.0}
    )
    return ReplayWorld(small, postgres_store, MemoryLog(histories.PARTITIONS))


async def like(log: MemoryLog, user_id: int, *, begins: bool = True) -> tuple[int, int]:
    record = write(History(), ("like" if begins else "unlike", user_id, MEDIA_ID))
    appended = await log.append("likes", key_of(user_id), record.value)
    return appended.partition, appended.number


class Served:
    """The projector and the readers of one view, as they go on during switches."""

    def __init__(self, world: ReplayWorld, readers: PostgresStore) -> None:
        self._world = world
        self._readers = readers
        self._users = count(1)
        self.reads = 0
        self.writes = 0
        self.read_ms: list[float] = []

    async def project(self) -> None:
        places = [("likes", number) for number in range(histories.PARTITIONS)]
        opener: Any = PlainOpener()
        log, letters = self._world.log, self._world.letters
        projection = Projection(VIEW, self._world.store, log, opener, letters, self._world.clock)
        reader = log.reader(await projection.start_positions(places))
        while True:
            await projection.step(reader, events_max=50, wait_s=0.01)

    async def write(self) -> None:
        """Likes, and then sees the like, its count and its inverse: from the moment that the
        positions cover it no table may be served that does not have it.
        """
        store = self._readers
        while True:
            user = next(self._users)
            partition, number = await like(self._world.log, user)
            while (await store.positions("likes"))["likes", partition].position < number:
                await asyncio.sleep(0.001)
            assert await LIKES.among(store, [(MEDIA_ID, user)])
            assert [
                edge.source for edge in await LIKES.inverse_page(store, user, after=None, limit=9)
            ]
            if user % 3 == 0:
                partition, number = await like(self._world.log, user, begins=False)
                while (await store.positions("likes"))["likes", partition].position < number:
                    await asyncio.sleep(0.001)
                assert not await LIKES.among(store, [(MEDIA_ID, user)])
            self.writes += 1

    async def read(self) -> None:
        """Counts only rise by what is written and fall by a third of it; pages hold what counts."""
        while True:
            began_s = time.perf_counter()
            found = await LIKES.count(self._readers, [MEDIA_ID])
            page = await LIKES.page(self._readers, MEDIA_ID, after=None, limit=5)
            self.read_ms.append((time.perf_counter() - began_s) * 1000)
            assert found[MEDIA_ID] >= 50
            assert len(page) == 5
            self.reads += 1


async def test_twenty_switches_under_load_refuse_nothing_and_serve_nothing_old(
    world: ReplayWorld,
) -> None:
    for user in range(100_001, 100_081):
        await like(world.log, user)
    await world.project(VIEW)
    readers = await PostgresStore.open(world.settings)
    served = Served(world, readers)
    try:
        async with asyncio.TaskGroup() as tasks:
            going = [tasks.create_task(served.project()), tasks.create_task(served.write())]
            going += [tasks.create_task(served.read()) for _ in range(READERS)]
            done = await replay_view(VIEW, world.parts, Wanted())
            assert done.switched
            assert not done.differs
            reads = []
            for _ in range(SWITCHES - 1):
                reads.append(served.reads)
                await roll_back(VIEW, world.parts)
            assert len(set(reads)) > SWITCHES // 2
            for task in going:
                task.cancel()
    finally:
        await readers.close()
    assert served.writes > SWITCHES
    await world.project(VIEW)
    assert await view_differences(VIEW, world.store, await world.in_memory(VIEW)) == []
    print(f"{served.reads} reads, {served.writes} writes, slowest {max(served.read_ms):.0f} ms")


async def test_who_reads_for_long_is_not_cut_off_and_the_switch_is_tried_again(
    world: ReplayWorld,
) -> None:
    await like(world.log, 1)
    await world.project(VIEW)
    assert (await world.replay(VIEW)).switched
    reader = await asyncpg.connect(world.settings.postgres_dsn)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM likes")
        switching = asyncio.create_task(roll_back(VIEW, world.parts))
        # While it waits, who reads has to wait for moments only.
        async with asyncio.timeout(3):
            for _ in range(20):
                assert await LIKES.count(world.store, [MEDIA_ID]) == {MEDIA_ID: 1}
                await asyncio.sleep(0.02)
        assert not switching.done()
    await switching
    await reader.close()
    assert await LIKES.count(world.store, [MEDIA_ID]) == {MEDIA_ID: 1}


class Stopped(Exception):
    """As a kill: whatever was under way is undone by the server."""


class _Stops:
    """Stops once at the first and once at the second word of each step."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.passed: Counter[str] = Counter()

    def told(self, step: str, _done: int, _total: int) -> None:
        self.passed[step] += 1
        word = step, self.passed[step]
        if word not in self.seen and word[1] <= 2:
            self.seen.add(word)
            raise Stopped


@pytest.mark.parametrize("name", ["likes", "comments"])
async def test_a_replay_that_ends_at_any_step_goes_on(world: ReplayWorld, name: str) -> None:
    view = VIEW_BY_NAME[name]
    for user in [*range(1, 60), *range(1, 20)]:
        await like(world.log, user, begins=user % 7 > 0)
        comment = (
            "comment",
            user,
            user * histories.PARTITIONS + 1,
            MEDIA_ID,
            b"request-%08d" % user,
        )
        record = write(History(), comment)
        await world.log.append("comments", record.key, record.value)
    await world.project(view)
    stops = _Stops()
    while True:
        try:
            done = await replay_view(view, replace(world.parts, told=stops.told), Wanted())
        except Stopped:
            stops.passed.clear()
            continue
        break
    assert done.switched
    assert not done.differs
    wanted = {"settling", "comparing"}
    if view is likes.VIEW:
        wanted |= {"copying", "keys and counts", "applying what came again"}
    assert wanted <= {step for step, _ in stops.seen}
    assert await view_differences(view, world.store, await world.in_memory(view)) == []


async def test_a_load_that_goes_on_knows_also_the_pairs_that_were_put_by(
    world: ReplayWorld,
) -> None:
    """What was put by may be known by nothing else: another pair had its bit, of so many bits. With
    others, as many as the events are now, that one has another.
    """
    await world.project(VIEW)
    async with Beside.open(world.settings, VIEW.schema) as beside:
        await beside.create({"likes": histories.PARTITIONS}, LOG_ID, LOADING)
        async with EdgeLoad.open(beside, events=10) as load:
            await load.begin()
            await load.put({"likes": _liked(MEDIA_ID, number=5)}, {("likes", 0): 5}, [])
        connection = await connect(world.settings, schema=beside.schema)
        await connection.execute("DELETE FROM likes")
        await connection.execute("DELETE FROM likes_by_user")
        await connection.execute(
            "INSERT INTO replay_again_likes VALUES ($1, 1, true, 5, 5, 0)", MEDIA_ID
        )
        await connection.close()
        async with EdgeLoad.open(beside, events=1_000_000) as load:
            await load.begin()
            await load.put({"likes": _liked(MEDIA_ID, number=9)}, {("likes", 0): 9}, [])
            assert await load.again() == 2


def _liked(media_id: int, number: int) -> EdgeColumns:
    return EdgeColumns.of([EdgeChange("likes", media_id, 1, True, number, number, 0)])
