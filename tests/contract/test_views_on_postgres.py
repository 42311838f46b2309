"""The real views on a migrated database: what the fixture `postgres_store` gives to every test."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from millrace.settings import Settings
from millrace.stores.changes import Batch, EdgeChange, Move, RowPut
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.stores.postgres import PostgresStore
from millrace.views import VIEW_BY_NAME, VIEWS
from millrace.views.likes import LIKES
from millrace.views.vault import VAULT
from tests.contract.view_stores import emptied
from tests.histories import History, Model, operations, write
from tests.replayed import differences
from tests.unit.test_views import check_equal, project_all


@pytest.fixture(params=["memory_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> ViewStore:
    found: ViewStore = request.getfixturevalue(request.param)
    return found


async def test_every_view_opens_and_reads(store: ViewStore) -> None:
    for view in VIEWS:
        await store.open_view(view.schema, dict.fromkeys(view.topics, 2), log_id=5)
        assert len(await store.positions(view.name)) == 2 * len(view.topics)
        for entity in view.entities:
            assert [row async for row in store.scan_rows(entity.table)] == []
        for edge in view.edges:
            assert [row async for row in store.scan_edges(edge.table)] == []


async def test_a_like_and_a_secret(store: ViewStore) -> None:
    likes, vault = VIEW_BY_NAME["likes"].schema, VIEW_BY_NAME["vault"].schema
    for schema in (likes, vault):
        await store.open_view(schema, dict.fromkeys(schema.topics, 1), log_id=5)
    like = EdgeChange("likes", 10, 20, True, 1, 1, 1_000)
    await store.apply(likes, Batch("likes", (Move("likes", 0, 0, 1),), [like]))
    assert await LIKES.count(store, [10]) == {10: 1}
    assert [edge.source for edge in await LIKES.inverse_page(store, 20, after=None, limit=5)] == [
        10
    ]
    secret = RowPut("vault", (20, 1, b""), {"box": b"\0sealed"}, 1, 1)
    await store.apply(vault, Batch("vault", (Move("vault", 0, 0, 1),), [secret]))
    rows = await VAULT.get_many(store, [(20, 1, b"")])
    assert rows[20, 1, b""].values == {"box": b"\0sealed"}


# What fails here and not in memory is seldom made clearer by the minutes that shrinking takes.
@given(ops=operations, seed=st.integers(0, 2**32))
@settings(
    deadline=None,
    max_examples=10,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_random_history_is_the_same_in_both_stores(
    postgres_settings: Settings,
    postgres_store: PostgresStore,
    ops: list[tuple],  # type: ignore[type-arg]
    seed: int,
) -> None:
    await emptied(postgres_settings, [view.schema for view in VIEWS])
    history, model, memory = History(), Model(), MemoryStore()
    for op in ops:
        model.apply(op, write(history, op))
    await project_all(history, seed, postgres_store)
    await check_equal(postgres_store, model)
    # Other interleavings, other batches.
    await project_all(history, seed + 1, memory)
    assert await differences(postgres_store, memory) == []
