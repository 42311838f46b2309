"""PostgreSQL tables of a view, from its declarations.

Rows:   <name> (key…, columns…, number, ended), <name>_requests where creations are claimed
Edges:  <name> (source, target, number, version, at_ms, live) and the same as <inverse> with
        source and target changed over; the primary key carries what a page shows, so that a
        page is read from the index alone
Counts: <count> (id, value)
Shared: positions (design §5)

Names come from declarations; they must be plain words, and are quoted all the same.
"""

import re
from collections.abc import Iterable

from millrace.errors import Bug
from millrace.stores.schema import Column, ColumnType, RowTable, ViewSchema

PG_TYPES: dict[ColumnType, str] = {
    "bigint": "bigint",
    "int": "integer",
    "bool": "boolean",
    "text": "text",
    "bytes": "bytea",
}
EDGE_COLUMNS = ("number", "version", "at_ms", "live")
ROW_COLUMNS = ("number", "ended")

_BLANKS: dict[ColumnType, str] = {
    "bigint": "0",
    "int": "0",
    "bool": "false",
    "text": "''",
    "bytes": "''",
}
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Room for the new version of a row in its own page: an update then touches no index (HOT).
_COUNTS_FILLFACTOR = 50
_POSITIONS_FILLFACTOR = 25

_POSITIONS = f"""CREATE TABLE positions (
  view text COLLATE "C" NOT NULL,
  shard_from integer NOT NULL,
  shard_to integer NOT NULL,
  topic text COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  epoch bigint NOT NULL,
  log_id bigint NOT NULL,
  position bigint NOT NULL,
  PRIMARY KEY (view, shard_from, topic, partition)
) WITH (fillfactor = {_POSITIONS_FILLFACTOR})"""


def quoted(name: str) -> str:
    """An identifier. Raises Bug for anything but a plain lower-case word."""
    if not _PLAIN.fullmatch(name):
        raise Bug(f"{name!r} is no name for a table or column")
    return f'"{name}"'


def definition(column: Column) -> str:
    """One line of a table: `"name" type NOT NULL DEFAULT blank`.

    Text compares by code point, as Python does; a new version of the system's locales then
    cannot make an index wrong.
    """
    collation = ' COLLATE "C"' if column.type == "text" else ""
    kind = PG_TYPES[column.type]
    return f"{quoted(column.name)} {kind}{collation} NOT NULL DEFAULT {_BLANKS[column.type]}"


def statements(schemas: Iterable[ViewSchema]) -> dict[str, str]:
    """CREATE TABLE by table name, the shared ones first. Raises Bug when two tables share one."""
    found = {"positions": _POSITIONS}
    for schema in schemas:
        for name, statement in _of_view(schema):
            if name in found:
                raise Bug(f"two tables are called {name}")
            found[name] = statement
    return found


def _of_view(schema: ViewSchema) -> Iterable[tuple[str, str]]:
    for table in schema.rows:
        yield table.name, _rows(table)
        if table.claimed:
            yield f"{table.name}_requests", _requests(table)
    for edge in schema.edges:
        yield edge.name, _edges(edge.name, edge.source, edge.target)
        if edge.inverse:
            yield edge.inverse, _edges(edge.inverse, edge.target, edge.source)
        for count in (edge.count, edge.inverse_count):
            if count:
                yield count, _counts(count)


def _rows(table: RowTable) -> str:
    columns = (*table.key, *table.columns)
    names = [column.name for column in columns]
    if len({*names, *ROW_COLUMNS}) != len(names) + len(ROW_COLUMNS):
        raise Bug(f"{table.name} has two columns of one name")
    key = ", ".join(quoted(column.name) for column in table.key)
    own = (Column("number"), Column("ended", "bool"))
    lines = [definition(column) for column in (*columns, *own)]
    return _create(table.name, [*lines, f"PRIMARY KEY ({key})"])


def _requests(table: RowTable) -> str:
    columns = (
        Column("actor_id"),
        Column("request_id", "bytes"),
        Column("key"),
        Column("body", "bytes"),
        Column("number"),
        Column("at_ms"),
    )
    lines = [definition(column) for column in columns]
    return _create(f"{table.name}_requests", [*lines, "PRIMARY KEY (actor_id, request_id)"])


def _edges(name: str, source: str, target: str) -> str:
    if len({source, target, *EDGE_COLUMNS}) != 2 + len(EDGE_COLUMNS):
        raise Bug(f"{name} has two columns of one name")
    columns = (Column(source), Column(target), Column("number"), Column("version"), Column("at_ms"))
    lines = [definition(column) for column in (*columns, Column("live", "bool"))]
    return _create(name, [*lines, edge_key(source, target)])


def edge_key(source: str, target: str) -> str:
    """The primary key of an edge table, with what a page shows."""
    return f"PRIMARY KEY ({quoted(source)}, {quoted(target)}) INCLUDE (live, version, at_ms)"


def _counts(name: str) -> str:
    lines = [definition(Column("id")), definition(Column("value")), "PRIMARY KEY (id)"]
    return f"{_create(name, lines)} WITH (fillfactor = {_COUNTS_FILLFACTOR})"


def _create(name: str, lines: Iterable[str]) -> str:
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {quoted(name)} (\n  {body}\n)"


def table_names(schema: ViewSchema) -> list[str]:
    """Every table of a view, in the order in which they are made."""
    return [name for name, _ in _of_view(schema)]
