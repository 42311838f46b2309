"""The projection where stores fail, partitions change hands, and events are poison."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.errors import FailedPrecondition, NewerEvent, StoreUnavailable
from millrace.log.dead import DeadLetters
from millrace.log.port import Record
from millrace.stores.changes import Batch
from millrace.stores.memory import MemoryStore
from millrace.stores.schema import ViewSchema
from millrace.views import follows
from social.log.v1.follows_pb2 import FollowsEvent
from tests.histories import History, write
from tests.projection_world import PARTITIONS, VIEW, FailingLog, FailingStore, World


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    failing=st.sampled_from([0, 0.05, 0.15]),
    refused=st.sets(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=3),
    rounds=st.integers(5, 40),
)
def test_nothing_is_lost_or_doubled_whatever_fails(
    seed: int, failing: float, refused: set[tuple[int, int]], rounds: int
) -> None:
    async def scenario() -> None:
        world = World(seed, failing, refused)
        await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
        tasks = world.start()
        for _ in range(rounds):
            await world.live()
        await world.catch_up()
        for task in tasks:
            assert not task.done()
            task.cancel()
        edges, dead = world.wanted()
        table = follows.FOLLOWS.table
        assert {row[:2]: row.version async for row in world.store.scan_edges(table)} == edges
        assert set(world.letters()) == dead

    asyncio.run(scenario())


@pytest.mark.parametrize("failing_call", range(12))
async def test_halving_goes_on_where_the_store_went_away(failing_call: int) -> None:
    refused = {(1, 2), (7, 8)}
    world = World(0, 0, refused)
    await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    for task in world.start():
        task.cancel()
    for user in range(1, 9):
        record = write(History(), ("follow", user, user + 1))
        await world.log.append("follows", record.key, record.value, partition=0)
    calls = iter(range(1_000))

    async def fail() -> None:
        if next(calls) == failing_call:
            raise StoreUnavailable("away")

    projection, reader = world.projections[0], world.readers[0]
    await projection.start_positions(PARTITIONS)
    reader._next, reader._unplaced = dict.fromkeys(PARTITIONS, 0), []
    world.store.fail = fail  # type: ignore[method-assign]
    for _ in range(3):
        await projection.step(reader, events_max=100, wait_s=0)
    edges, dead = world.wanted()
    found = [row async for row in world.store.scan_edges(follows.FOLLOWS.table)]
    assert {row[:2]: row.version for row in found} == edges
    assert world.letters() == Counter(dead)


@pytest.mark.parametrize("before", [0, 3])
async def test_an_event_of_a_newer_version_stops_the_projection_and_is_kept(before: int) -> None:
    world = World(0, 0, set())
    await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    for task in world.start():
        task.cancel()
    for user in range(1, before + 1):
        record = write(History(), ("follow", user, user + 1))
        await world.log.append("follows", record.key, record.value, partition=0)
    newer = max(kind.number for kind in FollowsEvent.DESCRIPTOR.oneofs_by_name["event"].fields) + 1
    await world.log.append("follows", b"key", bytes((newer << 3 | 2, 1, 0)), partition=0)
    projection, reader = world.projections[0], world.readers[0]
    await projection.start_positions(PARTITIONS)
    reader._next, reader._unplaced = dict.fromkeys(PARTITIONS, 0), []
    with pytest.raises(NewerEvent):
        await projection.step(reader, events_max=100, wait_s=0)
    positions = await world.projections[1].start_positions(PARTITIONS)
    assert positions["follows", 0] <= before
    assert not world.letters()


async def test_a_store_that_is_slow_gets_less_at_a_time() -> None:
    world = World(0, 0, set())
    await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    for task in world.start():
        task.cancel()
    for user in range(1, 501):
        record = write(History(), ("follow", user, user + 1))
        await world.log.append("follows", record.key, record.value)
    projection, reader = world.projections[0], world.readers[0]
    reader.give(PARTITIONS)
    done = world.store.apply

    async def apply_slowly(schema: ViewSchema, batch: Batch) -> None:
        if len(batch.changes) > 100:
            raise StoreUnavailable("not in time")
        await done(schema, batch)

    world.store.apply = apply_slowly  # type: ignore[method-assign]
    assert await projection.step(reader, events_max=1_000, wait_s=0) == 500
    assert sum(projection.at.values()) == 500


async def test_a_letter_that_is_tried_again_counts_once() -> None:
    log = FailingLog(1, ManualClock())
    log.failures = 5
    dead = DeadLetters(log, VIEW.name, ManualClock(), ratio_max=0.2, window_events=10)
    record = Record("follows", 0, 1, b"key", b"\xff")
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await dead.put(record, "no event")
    await dead.put(record, "no event")
    await dead.put(record._replace(number=2), "no event")
    with pytest.raises(FailedPrecondition):
        await dead.put(record._replace(number=3), "one too many")
    assert log.end("follows.dead", 0) == 2


async def test_who_went_back_is_told_before_anything_is_applied_again() -> None:
    world = World(0, 0, set())
    await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    for task in world.start():
        task.cancel()
    for user in range(1, 40):
        record = write(History(), ("follow", user, user + 1))
        await world.log.append("follows", record.key, record.value)
    projection, reader = world.projections[0], world.readers[0]
    reader.give(PARTITIONS)
    await projection.step(reader, events_max=10, wait_s=0)
    told: list[int] = []

    async def went_back() -> None:
        stored = await MemoryStore.positions(world.store, VIEW.name)
        told.append(sum(row.position for row in stored.values()))

    projection.went_back = went_back
    await projection.step(reader, events_max=1, wait_s=0)
    assert not told
    backup = FailingStore(0, 0, set())
    await backup.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    projection.store = world.store = backup
    await projection.step(reader, events_max=10, wait_s=0)
    assert told == [0]


async def test_who_has_seen_nothing_of_a_view_looks_whether_it_went_back_as_well() -> None:
    """What the view lost was another worker's work."""
    world = World(0, 0, set())
    await world.store.open_view(VIEW.schema, {"follows": len(PARTITIONS)}, log_id=1)
    for task in world.start():
        task.cancel()
    looks = 0

    async def went_back() -> None:
        nonlocal looks
        looks += 1

    world.projections[0].went_back = went_back
    await world.projections[0].start_positions(PARTITIONS)
    assert looks == 1
