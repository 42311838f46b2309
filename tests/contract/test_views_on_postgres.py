"""The real views on a migrated database: what the fixture `postgres_store` gives to every test."""

import pytest

from millrace.stores.changes import Batch, EdgeChange, Move, RowPut
from millrace.stores.port import ViewStore
from millrace.views import VIEW_BY_NAME, VIEWS
from millrace.views.likes import LIKES
from millrace.views.vault import VAULT


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
