"""Applies one batch within a transaction that the caller has begun. READ COMMITTED is enough:
after its position has moved, nobody else writes the rows and edges of a partition.

Locks are taken in one order by everybody, or batches of different partitions would stop each
other at the counters: positions, then rows, then edge tables as declared; each in key order.
"""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, cast

from millrace.errors import Bug, PositionMoved
from millrace.stores.changes import Batch, Key
from millrace.stores.edge_sql import edge_sql
from millrace.stores.fold import (
    ClaimKey,
    ClaimRow,
    EdgeFinal,
    EdgesOnce,
    Folded,
    Row,
    Wanted,
    edges_once,
    fold,
    wanted,
)
from millrace.stores.postgres_pool import Connection
from millrace.stores.row_sql import row_sql
from millrace.stores.schema import EdgeTable, RowTable, ViewSchema

# $1 view, then by position: $2 topics, $3 partitions, $4 starts, $5 ends.
_MOVE = """
WITH locked AS MATERIALIZED (
  SELECT p.topic, p.partition, m.finish
  FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[])
    AS m (topic, partition, start, finish)
  JOIN positions p ON p.topic = m.topic AND p.partition = m.partition
  WHERE p.view = $1 AND p.shard_from = 0 AND p.position = m.start
  ORDER BY p.topic, p.partition FOR UPDATE OF p
)
UPDATE positions p SET position = l.finish FROM locked l
WHERE p.view = $1 AND p.shard_from = 0 AND p.topic = l.topic AND p.partition = l.partition
RETURNING 1"""


async def apply_batch(connection: Connection, schema: ViewSchema, batch: Batch) -> None:
    """Raises PositionMoved when a position is not where the batch starts."""
    await _move(connection, batch)
    if once := edges_once(batch.changes):
        await _write_once(connection, schema, once)
        return
    asked = wanted(batch.changes)
    tables = {table.name: table for table in schema.rows}
    rows, claims = await _standing(connection, tables, asked)
    folded = fold(schema, batch.changes, rows, claims)
    await _write_rows(connection, schema, folded)
    for table in schema.edges:
        for edges in folded.edges.get(table.name, ()):
            await _write_edges(connection, table, edges)


async def read_rows(connection: Connection, table: RowTable, keys: Iterable[Key]) -> dict[Key, Row]:
    columns = list(zip(*keys, strict=True))
    records = await connection.fetch(row_sql(table).read, *columns)
    return dict(row_of(table, record) for record in records)


async def read_claims(
    connection: Connection, table: RowTable, keys: Iterable[ClaimKey]
) -> dict[ClaimKey, ClaimRow]:
    if not table.claimed:
        raise Bug(f"{table.name} takes no claims")
    columns = list(zip(*keys, strict=True))
    records = await connection.fetch(row_sql(table).read_claims, *columns)
    return {(actor_id, request_id): ClaimRow(*rest) for actor_id, request_id, *rest in records}


def row_of(table: RowTable, record: Iterable[Any]) -> tuple[Key, Row]:
    """A record of `RowSql.read` or `scan`."""
    parts = tuple(record)
    width = len(table.key)
    names = (column.name for column in table.columns)
    values = dict(zip(names, parts[width:-2], strict=True))
    return parts[:width], Row(values, cast(int, parts[-2]), ended=cast(bool, parts[-1]))


async def _move(connection: Connection, batch: Batch) -> None:
    moves = sorted(batch.moves)
    if not moves:
        return
    if len({(move.topic, move.partition) for move in moves}) != len(moves):
        raise Bug("a batch moves a position twice")
    moved = await connection.fetch(_MOVE, batch.view, *zip(*moves, strict=True))
    if len(moved) != len(moves):
        places = ", ".join(f"{move.topic}/{move.partition}" for move in moves)
        raise PositionMoved(f"{batch.view}: one of {places} is not where the batch starts")


async def _standing(
    connection: Connection, tables: dict[str, RowTable], asked: Wanted
) -> tuple[dict[str, dict[Key, Row]], dict[str, dict[ClaimKey, ClaimRow]]]:
    rows = {
        name: await read_rows(connection, tables[name], keys) for name, keys in asked.rows.items()
    }
    claims = {
        name: await read_claims(connection, tables[name], keys)
        for name, keys in asked.claims.items()
    }
    return rows, claims


async def _write_rows(connection: Connection, schema: ViewSchema, folded: Folded) -> None:
    for table in schema.rows:
        names = [column.name for column in table.columns]
        if rows := folded.rows.get(table.name):
            lines = [
                (*key, *(row.values[name] for name in names), row.number, row.ended)
                for key, row in sorted(rows.items(), key=itemgetter(0))
            ]
            await connection.execute(row_sql(table).write, *zip(*lines, strict=True))
        if claims := folded.claims.get(table.name):
            requests = [(*key, *claim) for key, claim in sorted(claims.items())]
            await connection.execute(row_sql(table).write_claims, *zip(*requests, strict=True))


async def _write_edges(
    connection: Connection, table: EdgeTable, edges: dict[tuple[int, int], EdgeFinal]
) -> None:
    sources, targets = zip(*edges, strict=True)
    finals = edges.values()
    await connection.fetchval(
        edge_sql(table).apply,
        sources,
        targets,
        [final.order for final in finals],
        [final.begun if final.live else 0 for final in finals],
        [final.begun_at_ms for final in finals],
        [final.ended for final in finals],
    )


async def _write_once(connection: Connection, schema: ViewSchema, once: EdgesOnce) -> None:
    name, *columns = once
    table = next((table for table in schema.edges if table.name == name), None)
    if table is None:
        raise Bug(f"no edge table {name} in this view")
    await connection.fetchval(edge_sql(table).apply, *columns)
