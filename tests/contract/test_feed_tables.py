"""One contract for every feed store: which table of rows is served, and what is written beside."""

import asyncio
import gc

import pytest
from cassandra.query import BatchStatement

from millrace.errors import FailedPrecondition, StoreUnavailable, TablesGone
from millrace.settings import Settings
from millrace.stores.cassandra import CassandraFeedStore, open_feed_store
from millrace.stores.feed_port import BUILDING, FIRST_TABLE, KEPT, FeedRow, FeedStore
from tests.contract.test_feed_store import cassandra, cassandra_settings, store

__all__ = ["cassandra", "cassandra_settings", "store"]

OLD, NEW = FeedRow(1, 10, 5), FeedRow(1, 11, 5)
QUICK = {"feed_tables_refresh_s": 0.05, "feed_tables_lease_s": 0.5}


async def test_a_new_store_serves_its_first_table(store: FeedStore) -> None:
    tables = await store.tables()
    assert tables[:4] == (FIRST_TABLE, "", "", 0)


async def test_a_table_beside_is_written_from_now_on_and_served_when_it_is_said(
    store: FeedStore,
) -> None:
    await store.write([OLD])
    begun = await store.begin_table(await store.tables())
    assert begun[:4] == (FIRST_TABLE, f"{FIRST_TABLE}_1", BUILDING, 1)
    assert await store.tables() == begun
    await store.write([NEW])
    pairs = [(row.user_id, row.media_id) for row in (OLD, NEW)]
    assert await store.has_many(pairs) == set(pairs)
    assert await store.has_many(pairs, table=begun.beside) == {pairs[1]}
    await store.write_to(begun.beside, [OLD])
    assert await store.has_many(pairs, table=begun.beside) == set(pairs)
    wanted = begun._replace(current=begun.beside, beside=begun.current, phase=KEPT)
    await store.change_tables(begun, wanted)
    assert await store.page(1, limit=5) == [(11, 5), (10, 5)]
    await store.write([FeedRow(1, 12, 5)])
    assert await store.has_many([(1, 12)], table=FIRST_TABLE) == {(1, 12)}


async def test_no_name_comes_twice_and_a_dropped_table_is_gone(store: FeedStore) -> None:
    begun = await store.begin_table(await store.tables())
    alone = begun._replace(beside="", phase="")
    await store.change_tables(begun, alone)
    await store.drop_table(begun.beside)
    with pytest.raises(TablesGone):
        await store.write_to(begun.beside, [OLD])
    again = await store.begin_table(alone)
    assert again.beside == f"{FIRST_TABLE}_2"


async def test_of_two_changes_one_counts(store: FeedStore) -> None:
    tables = await store.tables()
    begun = await store.begin_table(tables)
    with pytest.raises(FailedPrecondition):
        await store.begin_table(tables)
    with pytest.raises(FailedPrecondition):
        await store.change_tables(tables, tables)
    assert await store.tables() == begun


async def test_another_process_goes_by_a_change_within_its_lease(
    cassandra: CassandraFeedStore, cassandra_settings: Settings
) -> None:
    other = await open_feed_store(cassandra_settings.model_copy(update=QUICK))
    try:
        begun = await cassandra.begin_table(await cassandra.tables())
        await asyncio.wait_for(_until_written(other, begun.beside), 30)
    finally:
        await other.close()


async def _until_written(store: CassandraFeedStore, table: str) -> None:
    while not await store.has_many([(1, 10)], table=table):
        await store.write([OLD])


async def until_gone(store: CassandraFeedStore) -> None:
    """Between two looks at the tables it may only be told that nothing is known of them."""
    async with asyncio.timeout(30):
        while True:
            try:
                await store.write([OLD])
            except TablesGone:
                raise
            except StoreUnavailable:
                await asyncio.sleep(0)


async def test_who_writes_notices_that_the_store_was_emptied(
    cassandra: CassandraFeedStore, cassandra_settings: Settings
) -> None:
    """Reads go on when the tables are there again; writers and positions start again."""
    other = await open_feed_store(cassandra_settings.model_copy(update=QUICK))
    try:
        await other.write([OLD])
        keyspace = cassandra_settings.cassandra_keyspace
        await cassandra._session.define(f"DROP KEYSPACE {keyspace}")
        with pytest.raises(StoreUnavailable):
            await other.page(1, limit=5)
        with pytest.raises(TablesGone):
            await until_gone(other)
        made = await open_feed_store(cassandra_settings)
        await made.write([NEW])
        await made.close()
        await asyncio.wait_for(_until_read(other), 30)
        with pytest.raises(TablesGone):
            await other.write([OLD])
        with pytest.raises(TablesGone):
            await other.save_position("delivery", "chunks.small", 0, 1, 1, {})
    finally:
        await other.close()


async def _until_read(store: CassandraFeedStore) -> None:
    while True:
        try:
            if await store.page(1, limit=5) == [(11, 5)]:
                return
        except StoreUnavailable:
            await asyncio.sleep(0)


async def test_a_statement_that_node_and_driver_forgot_means_a_lost_table(
    cassandra: CassandraFeedStore, cassandra_settings: Settings
) -> None:
    session, table = cassandra._session, f"{cassandra_settings.cassandra_keyspace}.short_lived"
    await session.define(f"CREATE TABLE {table} (id bigint PRIMARY KEY)")
    batch = BatchStatement()
    # The batch keeps the statement's id and values, and nobody keeps the statement.
    batch.add(await session.prepare(f"INSERT INTO {table} (id) VALUES (?)"), (1,))
    gc.collect()
    await session.define(f"DROP TABLE {table}")
    with pytest.raises(TablesGone) as raised:
        await session.execute(batch)
    # Were it refused as one on an unknown table, this would be another test.
    assert isinstance(raised.value.__cause__, AttributeError)
