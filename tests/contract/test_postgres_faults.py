"""What can go wrong between us and PostgreSQL: all of a batch or nothing, and errors with names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import asyncpg
import pytest

from millrace.errors import StoreUnavailable
from millrace.settings import Settings
from millrace.stores.changes import Batch, Move
from millrace.stores.memory import MemoryStore
from millrace.stores.postgres import PostgresStore
from tests.contract.view_stores import apply, assert_holds, emptied, open_sample
from tests.sample_view import BONDS, PARTITIONS, SAMPLE, TOPIC, Model, bond, item

BATCH = Batch("sample", (Move(TOPIC, 0, 0, 9),), [item(5, 1, 3, b"r"), bond(1, 2, 4)])
_WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@asynccontextmanager
async def opened(settings: Settings, **limits: float) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(settings.model_copy(update=limits), schema_checked=False)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def settings(sample_settings: Settings) -> Settings:
    await emptied(sample_settings)
    async with opened(sample_settings) as store:
        await open_sample(store)
    return sample_settings


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Somebody else's connection, for locks that stand in the way."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    yield connection
    await connection.close()


async def waiting_pid(other: "asyncpg.Connection[asyncpg.Record]") -> int:
    """The backend that waits for a lock, as soon as there is one."""
    async with asyncio.timeout(20):
        while True:
            # Within a transaction the activity would be read once and never again.
            await other.execute("SELECT pg_stat_clear_snapshot()")
            pid = await other.fetchval(_WAITING)
            if isinstance(pid, int):
                return pid


async def test_a_connection_killed_in_the_middle_leaves_nothing(
    settings: Settings, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(settings) as store:
        async with other.transaction():
            await other.execute("INSERT INTO bonds_by_taker_count (id, value) VALUES (2, 0)")
            applying = asyncio.create_task(store.apply(SAMPLE, BATCH))
            pid = await waiting_pid(other)
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(StoreUnavailable):
                await applying
        await assert_holds(store, Model())
        await store.apply(SAMPLE, BATCH)
        assert await store.count(BONDS, [2], inverse=True) == {2: 1}


async def test_a_lock_that_is_held_too_long_is_a_timeout(
    settings: Settings, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(settings, postgres_timeout_s=0.5) as store:
        async with other.transaction():
            await other.execute("INSERT INTO bonds_count (id, value) VALUES (1, 0)")
            with pytest.raises(StoreUnavailable):
                await store.apply(SAMPLE, BATCH)
        await assert_holds(store, Model())
        await store.apply(SAMPLE, BATCH)


async def test_a_deadlock_is_tried_again(
    settings: Settings, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    changes = [bond(1, 2, 3), bond(2, 2, 4)]
    async with opened(settings) as store:
        await apply(store, bond(1, 9, 1), bond(2, 9, 2))
        await other.execute("SET deadlock_timeout = '1min'")
        async with other.transaction():
            # The batch takes counter 1, then waits here for 2; then this waits for 1.
            await other.execute("UPDATE bonds_count SET value = value WHERE id = 2")
            applying = asyncio.create_task(apply(store, *changes))
            await waiting_pid(other)
            await other.execute("UPDATE bonds_count SET value = value WHERE id = 1")
        await applying
        assert await store.count(BONDS, [1, 2]) == {1: 2, 2: 2}


async def test_partitions_that_share_counters_never_deadlock(settings: Settings) -> None:
    """With no retry allowed: a deadlock would be an error."""
    rounds, givers, takers = 8, 60, 40
    twin = MemoryStore()
    await open_sample(twin)

    async def work(store: PostgresStore, partition: int) -> None:
        for turn in range(rounds):
            changes = [
                # Owners differ by partition; those whom they are bound to are the same.
                bond(giver * PARTITIONS + partition, taker, turn + 1, live=(turn + taker) % 3 > 0)
                for giver in range(givers)
                for taker in range(turn % 2, takers, 2)
            ]
            changes.sort(key=lambda change: hash((change, partition)))
            await apply(store, *changes, partition=partition)
            await apply(twin, *changes, partition=partition)

    async with opened(settings, postgres_retries_max=0) as store:
        await asyncio.gather(*(work(store, partition) for partition in range(PARTITIONS)))
        rows = [row async for row in store.scan_edges(BONDS)]
        assert rows == [row async for row in twin.scan_edges(BONDS)]
        for inverse in (False, True):
            counts = [one async for one in store.scan_counts(BONDS, inverse=inverse)]
            assert counts == [one async for one in twin.scan_counts(BONDS, inverse=inverse)]


async def test_a_server_that_is_not_there(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"postgres_dsn": "postgresql://x:x@127.0.0.1:1/x"})
    with pytest.raises(StoreUnavailable):
        await PostgresStore.open(nowhere)


async def test_connections_that_were_lost_are_made_again(
    settings: Settings, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(settings) as store:
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        # The loss may be noticed by the first call.
        with suppress(StoreUnavailable):
            await store.positions("sample")
        await store.apply(SAMPLE, BATCH)


async def test_waiting_for_a_connection_has_an_end(settings: Settings) -> None:
    async with opened(settings, postgres_pool_max=1, postgres_timeout_s=0.5) as store:
        await apply(store, *(bond(1, taker, taker) for taker in range(1, 3_000)))
        async with aclosing(store.scan_edges(BONDS)) as rows:  # type: ignore[type-var]
            await anext(rows)
            with pytest.raises(StoreUnavailable):
                await store.count(BONDS, [1])
        assert await store.count(BONDS, [1]) == {1: 2_999}
