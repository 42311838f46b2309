"""The view store on PostgreSQL.

One transaction a batch (`postgres_apply`), bounded reads (`postgres_reads`), positions
(`postgres_positions`); what errors mean: `postgres_errors`. Nothing is retried but an `apply`
that met a deadlock, at most `postgres_retries_max` times.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from millrace.errors import StoreUnavailable
from millrace.settings import Settings
from millrace.stores import postgres_positions, postgres_reads
from millrace.stores.changes import Batch, Key, Scalar
from millrace.stores.fold import ClaimKey, ClaimRow, Row
from millrace.stores.migrate import check_schema
from millrace.stores.port import EdgeRow, PositionRow, StoredPosition, ViewStore
from millrace.stores.postgres_apply import (
    apply_batch,
    read_claims,
    read_rows,
    row_of,
)
from millrace.stores.postgres_errors import Conflict, reading, translated
from millrace.stores.postgres_pool import Connection, Pool, open_pool
from millrace.stores.row_sql import row_sql
from millrace.stores.schema import EdgeTable, RowTable, ViewSchema
from millrace.stores.values import check_changes, check_keys

T = TypeVar("T")


class Admission(Protocol):
    """Who decides which connections may serve, by the positions that they see."""

    def check(self) -> None:
        """Before a connection is asked for. Raises StoreUnavailable."""

    def look(self, stored: Sequence[PositionRow]) -> None:
        """At each new connection. Raises StoreUnavailable for one that must not serve."""


class PostgresStore:
    """Implements `ViewStore`. Reads beyond `postgres_pool_max` at once wait for a connection,
    at most `postgres_timeout_s`.
    """

    def __init__(self, pool: Pool, settings: Settings, admission: Admission | None = None) -> None:
        self._pool = pool
        self._settings = settings
        self._admission = admission
        self._timeout_s = settings.postgres_timeout_s
        self._retries_max = settings.postgres_retries_max
        self._scan_rows = settings.postgres_scan_rows

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        schema_checked: bool = True,
        schema: str = "",
        admission: Admission | None = None,
    ) -> "PostgresStore":
        """`schema`: whose tables, if not the served ones (a replay's).

        Raises StoreUnavailable when the server does not answer, and FailedPrecondition when
        its schema is older than the code; tests that make their own tables do not check.
        """

        async def begun(connection: Connection) -> None:
            if admission is not None:
                admission.look(await postgres_positions.all_positions(connection))

        with translated("connect"):
            pool = await open_pool(settings, settings.postgres_dsn, schema=schema, begun=begun)
        store = cls(pool, settings, admission)
        if schema_checked:
            try:
                async with store._connection() as connection:
                    await check_schema(connection)
            except BaseException:
                await store.close()
                raise
        return store

    async def open_view(
        self, schema: ViewSchema, partitions: Mapping[str, int], log_id: int
    ) -> None:
        with translated(f"open {schema.view}"):
            async with self._transaction() as connection:
                await postgres_positions.open_view(connection, schema, partitions, log_id)

    async def apply(self, schema: ViewSchema, batch: Batch) -> None:
        check_changes(schema, batch.changes)
        for _ in range(self._retries_max + 1):
            try:
                with translated(f"apply to {schema.view}"):
                    async with self._transaction() as connection:
                        await apply_batch(connection, schema, batch)
                return
            except Conflict:
                continue
        raise StoreUnavailable(f"{schema.view}: every attempt met a deadlock")

    async def positions(self, view: str) -> dict[tuple[str, int], StoredPosition]:
        with reading("positions"):
            async with self._connection() as connection:
                return await postgres_positions.positions(connection, view)

    async def at_one_moment(
        self, view: str, read: Callable[[ViewStore], Awaitable[T]]
    ) -> tuple[dict[tuple[str, int], StoredPosition], T]:
        with reading(f"{view} at one moment"):
            async with self._connection() as connection, _moment(connection):
                stored = await postgres_positions.positions(connection, view)
                return stored, await read(_OneMoment(self, connection))

    async def all_positions(self) -> list[PositionRow]:
        with reading("positions"):
            async with self._connection() as connection:
                return await postgres_positions.all_positions(connection)

    async def raise_epoch(self, view: str, at_least: int = 0) -> int:
        with translated(f"raise the epoch of {view}"):
            async with self._transaction() as connection:
                return await postgres_positions.raise_epoch(connection, view, at_least)

    async def get_many(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(table, keys)
        if not keys:
            return {}
        with reading(table.name):
            async with self._connection() as connection:
                return await read_rows(connection, table, keys)

    async def numbers(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, int]:
        check_keys(table, keys)
        if not keys:
            return {}
        with reading(table.name):
            async with self._connection() as connection:
                return await postgres_reads.numbers(connection, table, keys)

    async def linked(
        self, table: RowTable, keys: Sequence[Key], column: str, other: RowTable, wanted: str
    ) -> dict[Key, tuple[Scalar, Scalar | None]]:
        check_keys(table, keys)
        if not keys:
            return {}
        with reading(table.name):
            async with self._connection() as connection:
                return await postgres_reads.linked(connection, table, keys, column, other, wanted)

    async def claims(self, table: RowTable, keys: Sequence[ClaimKey]) -> dict[ClaimKey, ClaimRow]:
        if not keys:
            return {}
        with reading(f"claims of {table.name}"):
            async with self._connection() as connection:
                return await read_claims(connection, table, keys)

    async def edges(
        self, table: EdgeTable, pairs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], EdgeRow]:
        if not pairs:
            return {}
        with reading(table.name):
            async with self._connection() as connection:
                return await postgres_reads.among(connection, table, pairs)

    async def page(
        self,
        table: EdgeTable,
        source: int,
        *,
        after: int | None = None,
        limit: int,
        inverse: bool = False,
    ) -> list[EdgeRow]:
        name = table.inverted() if inverse else table.name
        with reading(f"page of {name}"):
            async with self._connection() as connection:
                read = postgres_reads.inverse_page if inverse else postgres_reads.page
                return await read(connection, table, source, after, limit)

    async def inverse_ids(
        self, table: EdgeTable, targets: Sequence[int], *, limit: int
    ) -> dict[int, list[int]]:
        with reading(f"page of {table.inverted()}"):
            async with self._connection() as connection:
                return await postgres_reads.inverse_ids(connection, table, targets, limit)

    async def merged_page(
        self, table: EdgeTable, sources: Sequence[int], *, before: int | None = None, limit: int
    ) -> list[EdgeRow]:
        with reading(f"page of {table.name}"):
            async with self._connection() as connection:
                return await postgres_reads.merged_page(connection, table, sources, before, limit)

    async def count(
        self, table: EdgeTable, ids: Sequence[int], *, inverse: bool = False
    ) -> dict[int, int]:
        name = table.counter(inverse=inverse)
        with reading(name):
            async with self._connection() as connection:
                return await postgres_reads.count(connection, name, ids)

    async def scan_rows(self, table: RowTable) -> AsyncIterator[tuple[Key, Row]]:
        with reading(f"scan of {table.name}"):
            async with self._snapshot() as connection:
                cursor = connection.cursor(row_sql(table).scan, prefetch=self._scan_rows)
                async for record in cursor:
                    yield row_of(table, record)

    async def scan_edges(self, table: EdgeTable) -> AsyncIterator[EdgeRow]:
        with reading(f"scan of {table.name}"):
            async with self._snapshot() as connection:
                rows = postgres_reads.scan_edges(connection, table, self._scan_rows)
                async for row in rows:
                    yield row

    async def scan_counts(
        self, table: EdgeTable, *, inverse: bool = False
    ) -> AsyncIterator[tuple[int, int]]:
        name = table.counter(inverse=inverse)
        with reading(f"scan of {name}"):
            async with self._snapshot() as connection:
                counts = postgres_reads.scan_counts(connection, name, self._scan_rows)
                async for count in counts:
                    yield count

    async def close(self) -> None:
        """Calls that run may end; what takes longer than `postgres_timeout_s` is cut off."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._admission is not None:
            self._admission.check()
        async with self._pool.acquire(timeout=self._timeout_s) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        """A scan may take long between two fetches: the reader's pace is not the server's."""
        async with self._connection() as connection, _moment(connection):
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection


class _OneMoment(PostgresStore):
    """Reads on one connection, in the transaction that was begun there."""

    def __init__(self, store: PostgresStore, connection: Connection) -> None:
        super().__init__(store._pool, store._settings, None)
        self._held = connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        yield self._held


def _moment(connection: Connection) -> AbstractAsyncContextManager[Any]:
    return connection.transaction(isolation="repeatable_read", readonly=True)
