"""Compares a view's tables with those beside them: counts and checksums by ranges of the key, and
row by row where a range differs. Two streams in key order, so in bounded memory.

The served tables are read in one snapshot, together with their positions; the ones beside stand
still meanwhile. Compared is what the view means: of an ended edge not when it had begun, of counts
not those that are 0, and where the log is compacted nothing that has ended (it may be gone there).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from millrace.stores import ddl, postgres_positions
from millrace.stores.postgres_beside import Beside, TopicPartition, connect
from millrace.stores.postgres_errors import translated
from millrace.stores.row_sql import CLAIM_COLUMNS
from millrace.stores.schema import Column, RowTable, ViewSchema

RANGES = 256
_SAMPLE_ROWS = 20_000
_FETCH_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class _Compared:
    """`values` are expressions; `where` says which rows mean something."""

    name: str
    key: tuple[Column, ...]
    values: tuple[str, ...]
    where: str = "true"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: as it is served and as the replay has it; None where it is not there."""

    table: str
    key: tuple[Any, ...]
    served: tuple[Any, ...] | None
    replayed: tuple[Any, ...] | None


@dataclass(slots=True)
class TableCompared:
    """`first`: the first of the differences. Ranges that agree count as equal rows."""

    table: str
    served: int
    replayed: int
    ranges: int = 0
    ranges_different: int = 0
    different: int = 0
    first: list[Difference] = field(default_factory=list)


class Comparison:
    """`positions` of the served view, at which the tables beside must stand when it is run."""

    def __init__(
        self,
        beside: Beside,
        served: asyncpg.Connection,
        replayed: asyncpg.Connection,
        positions: dict[TopicPartition, int],
    ) -> None:
        self.positions = positions
        self._beside = beside
        self._served = served
        self._replayed = replayed

    @classmethod
    @asynccontextmanager
    async def open(cls, beside: Beside) -> AsyncIterator["Comparison"]:
        """From here on the served side is what it is now, whatever is applied to it."""
        settings, view = beside.settings, beside.view.view
        with translated(f"compare {view}"):
            served = await connect(settings)
            try:
                replayed = await connect(settings, schema=beside.schema)
                try:
                    async with served.transaction(isolation="repeatable_read", readonly=True):
                        stored = await postgres_positions.positions(served, view)
                        positions = {place: row.position for place, row in stored.items()}
                        yield cls(beside, served, replayed, positions)
                finally:
                    await replayed.close(timeout=settings.postgres_timeout_s)
            finally:
                await served.close(timeout=settings.postgres_timeout_s)

    async def tables(
        self, *, ended_too: bool, differences_max: int
    ) -> AsyncIterator[TableCompared]:
        for table in _tables(self._beside.view, ended_too=ended_too):
            yield await self._table(table, differences_max)

    async def _table(self, table: _Compared, differences_max: int) -> TableCompared:
        bounds = await self._bounds(table)
        sums = _sums(table)
        served = {record[0]: record[1:] for record in await _rows(self._served, sums, bounds)}
        other = {record[0]: record[1:] for record in await _rows(self._replayed, sums, bounds)}
        ranges = sorted({*served, *other})
        different = [one for one in ranges if served.get(one) != other.get(one)]
        found = TableCompared(
            table.name,
            sum(count for count, _ in served.values()),
            sum(count for count, _ in other.values()),
            len(ranges),
            len(different),
        )
        if different:
            await self._look(table, bounds, different, found, differences_max)
        return found

    async def _bounds(self, table: _Compared) -> list[Any]:
        """Where the ranges begin, so that they hold about as many rows each."""
        name, key = ddl.quoted(table.name), ddl.quoted(table.key[0].name)
        rows = await self._replayed.fetchval(
            "SELECT greatest(reltuples, 1) FROM pg_class WHERE oid = $1::text::regclass", name
        )
        percent = min(100.0, max(100.0 * _SAMPLE_ROWS / rows, 0.01))
        records = await self._replayed.fetch(
            f"SELECT DISTINCT k FROM (SELECT k, row_number() OVER (ORDER BY k) AS n,"
            f" count(*) OVER () AS sampled FROM (SELECT {key} AS k FROM {name}"
            f" TABLESAMPLE BERNOULLI ({percent})) one) numbered"
            f" WHERE (n - 1) % greatest(sampled / {RANGES}, 1) = 0 ORDER BY k"
        )
        return [record[0] for record in records]

    async def _look(
        self,
        table: _Compared,
        bounds: list[Any],
        ranges: Sequence[int],
        found: TableCompared,
        differences_max: int,
    ) -> None:
        width = len(table.key)
        query = _in_ranges(table)
        async with self._replayed.transaction():
            one = _Stream(await self._served.cursor(query, bounds, ranges), width)
            other = _Stream(await self._replayed.cursor(query, bounds, ranges), width)
            await one.next()
            await other.next()
            while one.row is not None or other.row is not None:
                served, replayed = one.row, other.row
                if other.row is None or (one.row is not None and one.key < other.key):
                    replayed = None
                elif one.row is None or other.key < one.key:
                    served = None
                if served != replayed:
                    found.different += 1
                    if len(found.first) < differences_max:
                        key = one.key if served is not None else other.key
                        found.first.append(Difference(table.name, key, served, replayed))
                if served is not None:
                    await one.next()
                if replayed is not None:
                    await other.next()


class _Stream:
    """Rows in key order, a few at a time. `row` is None at the end; `key` is its key."""

    def __init__(self, cursor: Any, width: int) -> None:
        self.row: tuple[Any, ...] | None = None
        self.key: tuple[Any, ...] = ()
        self._cursor = cursor
        self._width = width
        self._fetched: list[Any] = []

    async def next(self) -> None:
        if not self._fetched:
            self._fetched = (await self._cursor.fetch(_FETCH_ROWS))[::-1]
        if not self._fetched:
            self.row = None
            return
        record = tuple(self._fetched.pop())
        self.key, self.row = record[: self._width], record[self._width :]


def _tables(schema: ViewSchema, *, ended_too: bool) -> list[_Compared]:
    found = []
    for table in schema.rows:
        found.append(_row_table(table, ended_too=ended_too))
        if table.claimed:
            values = tuple(ddl.quoted(column.name) for column in CLAIM_COLUMNS[2:])
            found.append(_Compared(f"{table.name}_requests", CLAIM_COLUMNS[:2], values))
    for edge in schema.edges:
        source, target = Column(edge.source), Column(edge.target)
        values = (
            "number",
            "live",
            "CASE WHEN live THEN version ELSE 0 END",
            "CASE WHEN live THEN at_ms ELSE 0 END",
        )
        found.append(_Compared(edge.name, (source, target), values))
        if edge.inverse:
            found.append(_Compared(edge.inverse, (target, source), values))
        counts = [count for count in (edge.count, edge.inverse_count) if count]
        found += [_Compared(name, (Column("id"),), ("value",), "value <> 0") for name in counts]
    return found


def _row_table(table: RowTable, *, ended_too: bool) -> _Compared:
    values = (*(ddl.quoted(column.name) for column in table.columns), "number", "ended")
    return _Compared(table.name, table.key, values, "true" if ended_too else "NOT ended")


def _range(table: _Compared) -> str:
    """$1: where ranges begin. 0 is what lies before the first."""
    key = table.key[0]
    kind = f"{ddl.PG_TYPES[key.type]}[]"
    return f"coalesce(width_bucket({ddl.quoted(key.name)}, $1::{kind}), 0)"


def _names(table: _Compared) -> str:
    return ", ".join([*(ddl.quoted(column.name) for column in table.key), *table.values])


def _sums(table: _Compared) -> str:
    """Number, rows and checksum of each range."""
    return (
        f"SELECT {_range(table)}, count(*), sum(hash_record_extended(ROW({_names(table)}), 0))"
        f" FROM {ddl.quoted(table.name)} WHERE {table.where} GROUP BY 1"
    )


def _in_ranges(table: _Compared) -> str:
    """$2: numbers of ranges."""
    order = ", ".join(ddl.quoted(column.name) for column in table.key)
    return (
        f"SELECT {_names(table)} FROM {ddl.quoted(table.name)}"
        f" WHERE {table.where} AND {_range(table)} = ANY($2::int[]) ORDER BY {order}"
    )


async def _rows(connection: asyncpg.Connection, query: str, bounds: list[Any]) -> list[Any]:
    return [tuple(record) for record in await connection.fetch(query, bounds)]
