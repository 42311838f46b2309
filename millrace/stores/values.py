"""Which values a view store takes. One rule for all stores, checked before anything is read.

Each change is checked by itself, even one that a later change of the same batch overwrites:
which event is poison must not depend on where batches were cut, or replay would differ from
what was live.
"""

from collections.abc import Iterable, Mapping

from millrace.errors import Bug, InvalidRequest, PoisonEvent
from millrace.stores.changes import (
    Change,
    EdgeChange,
    Key,
    RowCreate,
    RowEnd,
    RowPut,
    RowUpdate,
)
from millrace.stores.schema import ColumnType, RowTable, ViewSchema

_BITS: Mapping[ColumnType, int] = {"bigint": 63, "int": 31}


def check_changes(schema: ViewSchema, changes: Iterable[Change]) -> None:
    """Raises PoisonEvent for a value that its column cannot hold: the wrong type, a number of
    too many bits, text with a zero byte or half a surrogate. Raises Bug for a table or column
    that the view does not have. Edges are left to `check_edges`.
    """
    rows = {table.name: table for table in schema.rows}
    for change in changes:
        if isinstance(change, EdgeChange):
            continue
        table = rows.get(change.table)
        if table is None:
            raise Bug(f"no row table {change.table} in view {schema.view}")
        _check_row(table, change)


def check_edges(changes: Iterable[Change]) -> None:
    """The same for edges: for the twin. PostgreSQL refuses these by itself, and faster."""
    for change in changes:
        for edge in _edges_of(change):
            for value in (edge.source, edge.target, edge.number, edge.order, edge.at_ms):
                _check_value("an edge", "bigint", value)


def check_keys(table: RowTable, keys: Iterable[Key]) -> None:
    """For reads: raises InvalidRequest for a key that no row can have."""
    try:
        for key in keys:
            _check_key(table, key)
    except PoisonEvent as error:
        raise InvalidRequest(error.message) from error


def check_ids(ids: Iterable[int]) -> None:
    """The same for ids."""
    if not all(_fits("bigint", one) for one in ids):
        raise InvalidRequest("an id beyond 64 bits")


def _check_key(table: RowTable, key: Key) -> None:
    if len(key) != len(table.key):
        raise Bug(f"a key of {table.name} has {len(table.key)} parts")
    for column, value in zip(table.key, key, strict=True):
        if not _fits(column.type, value):
            _check_value(f"{table.name}.{column.name}", column.type, value)


def _check_row(table: RowTable, change: RowCreate | RowUpdate | RowPut | RowEnd) -> None:
    _check_key(table, change.key)
    types = {column.name: column.type for column in table.columns}
    if not isinstance(change, RowEnd):
        for name, value in change.values.items():
            if name not in types:
                raise Bug(f"{table.name} has no column {name}")
            _check_value(f"{table.name}.{name}", types[name], value)
    if isinstance(change, RowCreate) and change.claim is not None:
        if not table.claimed:
            raise Bug(f"{table.name} takes no claims")
        _check_value(f"claim of {table.name}", "bigint", change.claim.actor_id)
        _check_value(f"claim of {table.name}", "bytes", change.claim.request_id)
        _check_value(f"claim of {table.name}", "bytes", change.claim.body)


def _edges_of(change: Change) -> tuple[EdgeChange, ...]:
    if isinstance(change, EdgeChange):
        return (change,)
    return change.then if isinstance(change, RowCreate | RowEnd) else ()


def _check_value(place: str, kind: ColumnType, value: object) -> None:
    # The value itself stays out of the message: it may be personal text.
    if not _fits(kind, value):
        raise PoisonEvent(f"{place} cannot hold this {type(value).__name__}")


def _fits(kind: ColumnType, value: object) -> bool:
    if kind in _BITS:
        bound = 1 << _BITS[kind]
        return isinstance(value, int) and -bound <= value < bound
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "bytes":
        return isinstance(value, bytes)
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
