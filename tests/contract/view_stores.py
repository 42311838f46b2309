"""Both view stores with the tables of the sample view; what is equal in one is in the other."""

from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest

from millrace.settings import Settings
from millrace.stores import ddl
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.fold import Row
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.stores.postgres import PostgresStore
from millrace.stores.schema import EdgeTable, ViewSchema
from tests.databases import database
from tests.sample_view import (
    BONDS,
    ITEMS,
    LOG_ID,
    PARTITIONS,
    SAMPLE,
    SHELF,
    TOPIC,
    Model,
)


@pytest.fixture(scope="session")
async def sample_settings(stack_settings: Settings) -> AsyncIterator[Settings]:
    """One database with the sample's tables for the whole session: see `emptied`."""
    async with database(stack_settings) as settings:
        connection = await asyncpg.connect(settings.postgres_dsn)
        await connection.execute(";".join(ddl.statements([SAMPLE]).values()))
        await connection.close()
        yield settings


@pytest.fixture
async def sample_postgres(sample_settings: Settings) -> AsyncIterator[PostgresStore]:
    await emptied(sample_settings)
    store = await PostgresStore.open(sample_settings, schema_checked=False)
    await open_sample(store)
    yield store
    await store.close()


@pytest.fixture
async def sample_memory() -> MemoryStore:
    store = MemoryStore()
    await open_sample(store)
    return store


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> ViewStore:
    found: ViewStore = request.getfixturevalue(f"sample_{request.param}")
    return found


async def emptied(settings: Settings, schemas: Iterable[ViewSchema] = (SAMPLE,)) -> None:
    """The few rows of a test are deleted within milliseconds; a database of its own takes a
    hundred times that.
    """
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(";".join(f"DELETE FROM {name}" for name in ddl.statements(schemas)))
    await connection.close()


async def open_sample(store: ViewStore) -> None:
    await store.open_view(SAMPLE, {TOPIC: PARTITIONS}, LOG_ID)


async def apply(store: ViewStore, *changes: Change, partition: int = 0) -> None:
    """Applies changes as events of one partition, from where it stands."""
    start = (await store.positions("sample"))[TOPIC, partition].position
    end = max([start, *(change.number for change in changes)])
    move = Move(TOPIC, partition, start, end)
    await store.apply(SAMPLE, Batch("sample", (move,), list(changes)))


async def go_back(store: ViewStore, partition: int, position: int) -> None:
    """As after a restore of the positions alone."""
    start = (await store.positions("sample"))[TOPIC, partition].position
    await store.apply(SAMPLE, Batch("sample", (Move(TOPIC, partition, start, position),), []))


async def assert_holds(store: ViewStore, model: Model) -> None:
    """Every table, and each way of reading it, says what the model says."""
    for table in SAMPLE.rows:
        stored = [row async for row in store.scan_rows(table)]
        rows = {
            key: Row(row.values, row.number, row.ended)
            for (name, key), row in model.rows.items()
            if name == table.name
        }
        assert dict(stored) == rows
        assert [key for key, _ in stored] == sorted(rows)
        assert await store.get_many(table, list(rows)) == rows
    assert await store.claims(ITEMS, list(model.claims)) == model.claims
    await _assert_edges(store, BONDS, model)
    await _assert_edges(store, SHELF, model)
    await _assert_counts(store, BONDS, model, inverse=False)
    await _assert_counts(store, BONDS, model, inverse=True)
    await _assert_counts(store, SHELF, model, inverse=False)


async def _assert_edges(store: ViewStore, table: EdgeTable, model: Model) -> None:
    live = [(*pair, *begun) for pair, begun in sorted(model.live(table.name).items())]
    assert [row async for row in store.scan_edges(table)] == live
    pairs = [(source, target) for _, source, target in model.edges]
    assert sorted((await store.edges(table, pairs)).values()) == live
    for source in {edge[0] for edge in live}:
        own = [edge for edge in live if edge[0] == source]
        page = await store.page(table, source, limit=1_000)
        assert page == (own[::-1] if table.newest_first else own)
    if table.inverse:
        for target in {edge[1] for edge in live}:
            own = [edge for edge in live if edge[1] == target]
            assert await store.page(table, target, limit=1_000, inverse=True) == own


async def _assert_counts(
    store: ViewStore, table: EdgeTable, model: Model, *, inverse: bool
) -> None:
    counts = model.counts(table.name, side=int(inverse))
    assert dict([one async for one in store.scan_counts(table, inverse=inverse)]) == counts
    ids = [*counts, 999_999]
    assert await store.count(table, ids, inverse=inverse) == {**counts, 999_999: 0}
