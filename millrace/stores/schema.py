"""What a store's tables are made of. Declarations in `millrace/relations` compile to these."""

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["bigint", "int", "bool", "text", "bytes"]

SHARDS = 4096


@dataclass(frozen=True, slots=True)
class Column:
    """A column is never null: what is absent is 0, False or empty."""

    name: str
    type: ColumnType = "bigint"


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows by key. Each row has also `number` (of its last event) and `ended`.

    `reusable`: an ended key may be created again (a freed name). `claimed`: creations carry
    (actor, request_id) and the first of each counts; they are kept in `<name>_requests`.
    """

    name: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    reusable: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """Pairs (source, target) of ids; an ended pair stays as a tombstone.

    Columns: source, target, live, number (last event), version (the event that last began it),
    at_ms (when it last began). `inverse` names the table of (target, source), `count` the table
    of live targets by source, `inverse_count` that of live sources by target; "" where there is
    none. `newest_first`: pages go from the largest target down (a timeline), else upwards.
    """

    name: str
    source: str
    target: str
    inverse: str = ""
    count: str = ""
    inverse_count: str = ""
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class ViewSchema:
    """All tables of one view; they share its positions and its transactions."""

    view: str
    topics: tuple[str, ...]
    rows: tuple[RowTable, ...] = ()
    edges: tuple[EdgeTable, ...] = ()
