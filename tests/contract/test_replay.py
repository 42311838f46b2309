"""A replay builds what was live, whatever the history; and says so, or which rows differ."""

from random import Random

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from millrace.errors import FailedPrecondition
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of
from millrace.log.port import ORDER_HEADER
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.postgres import PostgresStore
from millrace.views import VIEW_BY_NAME, VIEWS, follows, likes
from streams.replay import Wanted, drop_beside, roll_back
from tests import histories
from tests.contract.view_stores import emptied
from tests.histories import History, write
from tests.replay_world import ReplayWorld, append_all
from tests.replayed import view_differences

EDGES = (likes.VIEW, follows.VIEW)
QUICK = settings(
    deadline=None,
    max_examples=8,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# kind, who, whom or what, how far back the place of a retried event lies.
edge_operations = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "end", "again", "poison"]),
        st.integers(1, 4),
        st.integers(5, 7),
        st.integers(1, 12),
        st.booleans(),
    ),
    min_size=10,
    max_size=80,
)


@pytest.fixture
async def world(postgres_settings: Settings, postgres_store: PostgresStore) -> ReplayWorld:
    small = postgres_settings.model_copy(
        update={"replay_batch_events": 7, "replay_memory_mib": 1, "project_dead_ratio_max": 1.0}
    )
    return ReplayWorld(small, postgres_store, MemoryLog(histories.PARTITIONS))


async def played_edges(log: MemoryLog, operations: list[tuple[str, int, int, int, bool]]) -> None:
    """The same history of both views. Retried events have an older place in their row's order."""
    for kind, one, other, back, begins in operations:
        for topic, verbs in (("likes", ("like", "unlike")), ("follows", ("follow", "unfollow"))):
            if kind == "poison":
                await log.append(topic, key_of(one), b"\xff\xff")
                continue
            verb = verbs[0 if kind == "begin" or (kind == "again" and begins) else 1]
            record = write(History(), (verb, one, other))
            order = log.end(topic, record.partition) + 1 - back
            headers = {ORDER_HEADER: max(order, 1).to_bytes(8, "big")} if kind == "again" else {}
            await log.append(topic, record.key, record.value, headers=headers)


async def begun(world: ReplayWorld, views: tuple[View, ...] = VIEWS) -> None:
    """Nothing beside, nothing served, nothing in the log: hypothesis uses one world for all."""
    for view in views:
        await drop_beside(view, world.parts)
    await emptied(world.settings, [view.schema for view in VIEWS])
    world.log = MemoryLog(histories.PARTITIONS)
    world.letters.found.clear()


async def assert_right(world: ReplayWorld, view: View) -> None:
    """What is served is what the memory twin makes of the log."""
    assert await view_differences(view, world.store, await world.in_memory(view)) == []


@QUICK
@given(operations=edge_operations, seed=st.integers(0, 2**32))
async def test_edges_that_are_copied_equal_those_that_were_applied(
    world: ReplayWorld, operations: list[tuple[str, int, int, int, bool]], seed: int
) -> None:
    await begun(world, EDGES)
    cut = Random(seed).randint(0, len(operations))
    await played_edges(world.log, operations[:cut])
    for view in EDGES:
        await world.project(view)
    await played_edges(world.log, operations[cut:])
    for view in EDGES:
        # The served view is behind the log: so the replay waits there for it.
        done = await world.replay(view, Wanted(switch=False))
        assert [table for table in done.tables if table.different] == []
        assert all(table.served == table.replayed for table in done.tables)
        await world.project(view)
        done = await world.replay(view)
        assert done.switched
        assert not done.differs
        await assert_right(world, view)
        dead = {one for one in world.letters.found if one[0] in view.topics}
        assert done.dead_count == len(dead)


@settings(QUICK, max_examples=4)
@given(operations=histories.operations)
async def test_every_view_is_built_as_it_was(world: ReplayWorld, operations: list[tuple]) -> None:  # type: ignore[type-arg]
    await begun(world)
    history = History()
    for operation in operations:
        write(history, operation)
    await append_all(world.log, history.partitions)
    for view in VIEWS:
        await world.project(view)
        done = await world.replay(view)
        assert [table for table in done.tables if table.different] == []
        assert done.switched
        await assert_right(world, view)


async def test_what_differs_is_shown_and_not_switched(world: ReplayWorld) -> None:
    view = VIEW_BY_NAME["likes"]
    await played_edges(world.log, [("begin", user, 7, 1, True) for user in (1, 2, 3)])
    await world.project(view)
    connection = await asyncpg.connect(world.settings.postgres_dsn)
    await connection.execute("UPDATE likes SET live = false WHERE user_id = 2")
    await connection.execute("DELETE FROM likes_by_user WHERE user_id = 3")
    await connection.execute("UPDATE likes_count SET value = 9")
    await connection.close()
    done = await world.replay(view)
    assert done.differs
    assert not done.switched
    assert {table.table: table.different for table in done.tables} == {
        "likes": 1,
        "likes_by_user": 1,
        "likes_count": 1,
    }
    shown = {table.table: table.first[0] for table in done.tables}
    assert shown["likes"].key == (7, 2)
    assert shown["likes_by_user"].served is None
    assert shown["likes_count"].served == (9,)
    assert shown["likes_count"].replayed == (3,)
    assert (await world.replay(view, Wanted(accept=True))).switched
    await assert_right(world, view)


async def test_a_rollback_serves_the_old_tables_as_of_now(world: ReplayWorld) -> None:
    view = VIEW_BY_NAME["likes"]
    await played_edges(world.log, [("begin", user, 7, 1, True) for user in (1, 2, 3)])
    await world.project(view)
    assert (await world.replay(view)).switched
    await played_edges(world.log, [("end", 1, 7, 1, True), ("begin", 4, 7, 1, True)])
    await world.project(view)
    for _ in range(3):
        await roll_back(view, world.parts)
        await assert_right(world, view)
        await played_edges(world.log, [("end", 1, 7, 1, True), ("begin", 1, 7, 1, True)])
        await world.project(view)
    assert await drop_beside(view, world.parts) == "kept"
    assert await drop_beside(view, world.parts) == ""
    await assert_right(world, view)


async def test_tables_of_an_older_schema_are_not_served(world: ReplayWorld) -> None:
    view = VIEW_BY_NAME["likes"]
    await world.project(view)
    assert (await world.replay(view)).switched
    connection = await asyncpg.connect(world.settings.postgres_dsn)
    await connection.execute("ALTER TABLE likes ADD COLUMN mood bigint NOT NULL DEFAULT 0")
    await connection.close()
    with pytest.raises(FailedPrecondition, match="likes beside likes are of another schema"):
        await roll_back(view, world.parts)
    with pytest.raises(FailedPrecondition, match="the old tables of likes are kept since"):
        await world.replay(view)


async def test_nothing_is_rolled_back_where_nothing_is_kept(world: ReplayWorld) -> None:
    view = VIEW_BY_NAME["likes"]
    await world.project(view)
    await world.replay(view, Wanted(switch=False))
    with pytest.raises(FailedPrecondition, match="no old tables of likes are kept"):
        await roll_back(view, world.parts)
