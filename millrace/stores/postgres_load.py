"""Fills the empty edge tables of a replay by COPY, and makes their keys and counts afterwards.

The first event of a pair is a row as it is, whatever follows: it goes straight into tables that
have no key yet. What comes to a pair again is put by and applied in the end, by the statement that
applies everything else (`edge_sql`), which decides by the events' order. So the two ways cannot
differ in what they make of an event; `PairsSeen` tells them apart, and where it calls a new pair
an old one, that pair only goes the slower way.

Positions move in the transaction of the copy: killed at any moment, it goes on where it was.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from millrace.stores import ddl, postgres_positions
from millrace.stores.changes import Batch, EdgeChange
from millrace.stores.copy_rows import encoded
from millrace.stores.edge_columns import EdgeColumns
from millrace.stores.pairs_seen import PairsSeen
from millrace.stores.port import ViewStore
from millrace.stores.postgres_beside import (
    FOLLOWING,
    KEYING,
    REPEATING,
    Beside,
    DeadFound,
    bury,
    connect,
)
from millrace.stores.postgres_errors import translated
from millrace.stores.schema import EdgeTable, ViewSchema

_SCAN_ROWS = 20_000
# Of a hundred new pairs at most one is taken for an old one, as long as the memory is enough.
_SEEN_BITS_A_PAIR = 128
_SEEN_BYTES_MIN = 4_096
_KEYS_PARALLEL = 2
_STATE_COLUMNS = ("number", "version", "at_ms", "live")
_AGAIN_COLUMNS = ("source", "target", "live", "number", "ord", "at_ms")
_CREATE_AGAIN = """
CREATE TABLE {} (
  source bigint NOT NULL,
  target bigint NOT NULL,
  live boolean NOT NULL,
  number bigint NOT NULL,
  ord bigint NOT NULL,
  at_ms bigint NOT NULL
)"""


def may_be_loaded(schema: ViewSchema) -> bool:
    """Whether edges are all that a view has: rows depend on what stands."""
    return bool(schema.edges) and not schema.rows


class EdgeLoad:
    """Of one view, from empty tables to whole ones. One call at a time."""

    def __init__(self, beside: Beside, connection: asyncpg.Connection, events: int) -> None:
        self._beside = beside
        self._connection = connection
        self._edges = beside.view.edges
        size_bytes = min(
            beside.settings.replay_memory_mib * 1024 * 1024,
            max(events * _SEEN_BITS_A_PAIR // 8, _SEEN_BYTES_MIN),
        )
        self._seen = {table.name: PairsSeen(size_bytes) for table in self._edges}

    @classmethod
    @asynccontextmanager
    async def open(cls, beside: Beside, events: int) -> AsyncIterator["EdgeLoad"]:
        """For a replay in phase LOADING, KEYING or REPEATING, of about so many events."""
        connection = await connect(beside.settings, schema=beside.schema)
        try:
            with translated(f"load {beside.view.view}"):
                yield cls(beside, connection, events)
        finally:
            await connection.close(timeout=beside.settings.postgres_timeout_s)

    async def begin(self) -> None:
        """Also after a kill: keys away, and known again which pairs are there."""
        async with self._connection.transaction():
            for table in self._edges:
                for name, *_ in _both(table):
                    await self._connection.execute(
                        f"ALTER TABLE {ddl.quoted(name)} DROP CONSTRAINT IF EXISTS {_key(name)}"
                    )
                create = _CREATE_AGAIN.replace("TABLE", "TABLE IF NOT EXISTS")
                await self._connection.execute(create.format(_again(table)))
        for table in self._edges:
            await self._remember(table)

    async def put(
        self,
        changed: Mapping[str, EdgeColumns],
        positions: Mapping[tuple[str, int], int],
        dead: Sequence[DeadFound],
    ) -> None:
        """One transaction: rows, positions, and what could not be taken."""
        flags = {
            name: self._seen[name].again(columns.sources, columns.targets)
            for name, columns in changed.items()
        }
        async with self._connection.transaction():
            for table in self._edges:
                if table.name in changed:
                    await self._copy(table, changed[table.name], flags[table.name])
            await postgres_positions.put(
                self._connection, self._beside.schema, self._beside.view.view, positions
            )
            await bury(self._connection, self._beside.schema, dead)

    async def make_keys(self) -> None:
        """Keys, statistics and counts of each table: as many tables at a time as there are
        connections. May be repeated.
        """
        await self._enter(KEYING)
        tables = [one for table in self._edges for one in _both(table)]
        left = iter(tables)
        async with AsyncExitStack() as opened:
            others = []
            for _ in range(min(_KEYS_PARALLEL, len(tables))):
                other = await connect(self._beside.settings, schema=self._beside.schema)
                opened.push_async_callback(other.close, timeout=1.0)
                others.append(other)
            async with asyncio.TaskGroup() as tasks:
                for other in others:
                    tasks.create_task(_finish(other, left))
        await self._enter(REPEATING)

    async def repeat(self, store: ViewStore, batch_events: int) -> AsyncIterator[int]:
        """Applies what came to a pair again; yields how many at a time. May be repeated: an event
        that is older than its row changes nothing.
        """
        view = self._beside.view
        for table in self._edges:
            query = f"SELECT {', '.join(_AGAIN_COLUMNS)} FROM {_again(table)} ORDER BY number"
            async with self._connection.transaction():
                cursor = await self._connection.cursor(query)
                while records := await cursor.fetch(batch_events):
                    changes: list[Any] = [EdgeChange(table.name, *record) for record in records]
                    await store.apply(view, Batch(view.view, (), changes))
                    yield len(changes)
        async with self._connection.transaction():
            for table in self._edges:
                await self._connection.execute(f"DROP TABLE {_again(table)}")
            await self._enter(FOLLOWING)

    async def again(self) -> int:
        """How many events wait for `repeat`."""
        return sum(
            [
                await self._connection.fetchval(f"SELECT count(*) FROM {_again(table)}")
                for table in self._edges
            ]
        )

    async def _remember(self, table: EdgeTable) -> None:
        """Also what was put by: with bits of another size, none of it may be called new."""
        columns = f"{ddl.quoted(table.source)}, {ddl.quoted(table.target)}"
        for query in (
            f"SELECT {columns} FROM {ddl.quoted(table.name)}",
            f"SELECT source, target FROM {_again(table)}",
        ):
            async with self._connection.transaction():
                cursor = await self._connection.cursor(query)
                while records := await cursor.fetch(_SCAN_ROWS):
                    pairs = np.array([tuple(record) for record in records], np.int64)
                    self._seen[table.name].again(pairs[:, 0].copy(), pairs[:, 1].copy())

    async def _copy(
        self, table: EdgeTable, all_: EdgeColumns, again: npt.NDArray[np.bool_]
    ) -> None:
        new = all_.where(~again)
        begun: Any = (np.where(new.lives, column, 0) for column in (new.numbers, new.at_ms))
        state = (new.orders, *begun, new.lives)
        for name, first, second, _ in _both(table):
            pair = (new.sources, new.targets)
            ids = pair if name == table.name else pair[::-1]
            await self._copy_to(name, (first, second, *_STATE_COLUMNS), (*ids, *state))
        if again.any():
            await self._copy_to(_again(table), _AGAIN_COLUMNS, all_.where(again))

    async def _copy_to(
        self, table: str, names: Sequence[str], columns: Sequence[npt.NDArray[Any]]
    ) -> None:
        source = io.BytesIO(encoded(columns))
        await self._connection.copy_to_table(
            table, source=source, columns=list(names), format="binary"
        )

    async def _enter(self, phase: str) -> None:
        await self._connection.execute("UPDATE replay_state SET phase = $1", phase)


class _Table(NamedTuple):
    """One direction of an edge table. `counted`: the table of how many pairs each `first` has."""

    name: str
    first: str
    second: str
    counted: str


def _both(table: EdgeTable) -> list[_Table]:
    """A table and its inverse."""
    found = [_Table(table.name, table.source, table.target, table.count)]
    if table.inverse:
        found.append(_Table(table.inverse, table.target, table.source, table.inverse_count))
    return found


async def _finish(connection: asyncpg.Connection, tables: Iterator[_Table]) -> None:
    """Takes the next table as long as there is one. Counts come last: by then pages are marked as
    visible, and the index alone tells.
    """
    for table in tables:
        await _add_key(connection, table)
        await connection.execute(f"VACUUM (ANALYZE) {ddl.quoted(table.name)}")
        if table.counted:
            await _fill_count(connection, table)
            await connection.execute(f"VACUUM (ANALYZE) {ddl.quoted(table.counted)}")


async def _add_key(connection: asyncpg.Connection, table: _Table) -> None:
    there = await connection.fetchval(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'p'",
        ddl.quoted(table.name),
    )
    if not there:
        await connection.execute(
            f"ALTER TABLE {ddl.quoted(table.name)} ADD CONSTRAINT {_key(table.name)}"
            f" {ddl.edge_key(table.first, table.second)}"
        )


async def _fill_count(connection: asyncpg.Connection, table: _Table) -> None:
    async with connection.transaction():
        await connection.execute(f"TRUNCATE {ddl.quoted(table.counted)}")
        await connection.execute(
            f"INSERT INTO {ddl.quoted(table.counted)} (id, value)"
            f" SELECT {ddl.quoted(table.first)}, count(*) FROM {ddl.quoted(table.name)}"
            " WHERE live GROUP BY 1 ORDER BY 1"
        )


def _key(name: str) -> str:
    return ddl.quoted(f"{name}_pkey")


def _again(table: EdgeTable) -> str:
    return f"replay_again_{table.name}"
