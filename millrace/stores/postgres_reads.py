"""Reads of one connection. The caller names errors and bounds what it asks for."""

from collections.abc import AsyncIterator, Iterable, Sequence

from millrace.stores.changes import Key, Scalar
from millrace.stores.edge_sql import count_scan_sql, count_sql, edge_sql
from millrace.stores.port import EdgeRow
from millrace.stores.postgres_pool import Connection
from millrace.stores.row_sql import linked_sql, numbers_sql
from millrace.stores.schema import EdgeTable, RowTable

_ID_MIN = -(2**63)
_ID_MAX = 2**63 - 1


async def numbers(connection: Connection, table: RowTable, keys: Iterable[Key]) -> dict[Key, int]:
    records = await connection.fetch(numbers_sql(table), *zip(*keys, strict=True))
    return {tuple(key): number for *key, number in records}


async def linked(
    connection: Connection,
    table: RowTable,
    keys: Iterable[Key],
    column: str,
    other: RowTable,
    wanted: str,
) -> dict[Key, tuple[Scalar, Scalar | None]]:
    statement = linked_sql(table, column, other, wanted)
    records = await connection.fetch(statement, *zip(*keys, strict=True))
    return {tuple(key): (named, found) for *key, named, found in records}


async def among(
    connection: Connection, table: EdgeTable, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], EdgeRow]:
    sources, targets = zip(*pairs, strict=True)
    records = await connection.fetch(edge_sql(table).among, sources, targets)
    return {(record[0], record[1]): EdgeRow(*record) for record in records}


async def page(
    connection: Connection, table: EdgeTable, source: int, after: int | None, limit: int
) -> list[EdgeRow]:
    low, high = _ID_MIN, _ID_MAX
    if after is not None and table.newest_first:
        high = after - 1
    elif after is not None:
        low = after + 1
    if low > _ID_MAX or high < _ID_MIN:
        return []
    records = await connection.fetch(edge_sql(table).page, source, low, high, limit)
    return [EdgeRow(source, target, version, at_ms) for target, version, at_ms in records]


async def inverse_page(
    connection: Connection, table: EdgeTable, target: int, after: int | None, limit: int
) -> list[EdgeRow]:
    if after == _ID_MAX:
        return []
    low = _ID_MIN if after is None else after + 1
    records = await connection.fetch(edge_sql(table).inverse_page, target, low, _ID_MAX, limit)
    return [EdgeRow(source, target, version, at_ms) for source, version, at_ms in records]


async def inverse_ids(
    connection: Connection, table: EdgeTable, targets: Sequence[int], limit: int
) -> dict[int, list[int]]:
    # In order, so that neighbours in the index are read one after another.
    wanted = sorted(set(targets))
    records = await connection.fetch(edge_sql(table).inverse_ids, wanted, limit)
    return {target: sources for target, sources in records}  # noqa: C416 - records are no pairs


async def merged_page(
    connection: Connection, table: EdgeTable, sources: Sequence[int], before: int | None, limit: int
) -> list[EdgeRow]:
    if before == _ID_MIN:
        return []
    high = _ID_MAX if before is None else before - 1
    # In order, so that neighbours in the index are read one after another.
    ids = sorted(set(sources))
    records = await connection.fetch(edge_sql(table).merged_page, ids, high, limit)
    return [EdgeRow(*record) for record in records]


async def count(connection: Connection, name: str, ids: Sequence[int]) -> dict[int, int]:
    counts = dict.fromkeys(ids, 0)
    records = await connection.fetch(count_sql(name), list(counts))
    counts.update((one, value) for one, value in records)
    return counts


async def scan_edges(
    connection: Connection, table: EdgeTable, prefetch: int
) -> AsyncIterator[EdgeRow]:
    async for record in connection.cursor(edge_sql(table).scan, prefetch=prefetch):
        yield EdgeRow(*record)


async def scan_counts(
    connection: Connection, name: str, prefetch: int
) -> AsyncIterator[tuple[int, int]]:
    async for one, value in connection.cursor(count_scan_sql(name), prefetch=prefetch):
        yield one, value
