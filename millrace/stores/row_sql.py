"""SQL of one row table and of its claims. Text only, like `edge_sql`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from millrace.stores.ddl import PG_TYPES, quoted
from millrace.stores.schema import Column, RowTable

_OWN = (Column("number"), Column("ended", "bool"))
CLAIM_COLUMNS = (
    Column("actor_id"),
    Column("request_id", "bytes"),
    Column("key"),
    Column("body", "bytes"),
    Column("number"),
    Column("at_ms"),
)


@dataclass(frozen=True, slots=True)
class RowSql:
    """`read`: $1… one array a key column → whole rows. `write`: one array a column, by key.
    `scan`: all rows by key. `read_claims`: $1 actors, $2 request ids. `write_claims`: arrays.

    Rows are (key columns, columns, number, ended).
    """

    read: str
    write: str
    scan: str
    read_claims: str
    write_claims: str


@cache
def row_sql(table: RowTable) -> RowSql:
    name, requests = quoted(table.name), quoted(f"{table.name}_requests")
    every = (*table.key, *table.columns, *_OWN)
    return RowSql(
        read=_read(name, table.key, every),
        write=_upsert(name, table.key, every),
        scan=f"SELECT {_names(every)} FROM {name} ORDER BY {_names(table.key)}",
        read_claims=_read(requests, CLAIM_COLUMNS[:2], CLAIM_COLUMNS),
        write_claims=_insert(requests, CLAIM_COLUMNS),
    )


@cache
def numbers_sql(table: RowTable) -> str:
    """$1… one array a key column → (key columns, number) of rows that stand."""
    return _read(quoted(table.name), table.key, (*table.key, _OWN[0]), "AND NOT ended")


@cache
def linked_sql(table: RowTable, column: str, other: RowTable, wanted: str) -> str:
    """$1… one array a key column → (key columns, `column`, `wanted` or null) of rows that stand;
    `wanted` is of the row of `other` whose only key column is `column`.
    """
    found = _read(quoted(table.name), table.key, (*table.key, Column(column)), "AND NOT ended")
    return f"""SELECT t.*, o.* FROM ({found}) t
LEFT JOIN LATERAL (
  SELECT {quoted(wanted)} FROM {quoted(other.name)}
  WHERE {quoted(other.key[0].name)} = t.{quoted(column)} AND NOT ended LIMIT 1
) o ON true"""


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(quoted(column.name) for column in columns)


def _arrays(columns: Sequence[Column]) -> str:
    return ", ".join(f"${n}::{PG_TYPES[column.type]}[]" for n, column in enumerate(columns, 1))


def _read(name: str, key: Sequence[Column], columns: Sequence[Column], more: str = "") -> str:
    wanted = ", ".join(f"k{n}" for n in range(len(key)))
    same = " AND ".join(f"{quoted(column.name)} = w.k{n}" for n, column in enumerate(key))
    return f"""SELECT t.* FROM unnest({_arrays(key)}) AS w ({wanted})
CROSS JOIN LATERAL (SELECT {_names(columns)} FROM {name} WHERE {same} {more} LIMIT 1) t"""


def _insert(name: str, columns: Sequence[Column]) -> str:
    return f"INSERT INTO {name} ({_names(columns)}) SELECT * FROM unnest({_arrays(columns)})"


def _upsert(name: str, key: Sequence[Column], columns: Sequence[Column]) -> str:
    changed = ", ".join(
        f"{quoted(column.name)} = excluded.{quoted(column.name)}" for column in columns[len(key) :]
    )
    return f"{_insert(name, columns)} ON CONFLICT ({_names(key)}) DO UPDATE SET {changed}"
