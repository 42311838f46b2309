"""What a store's tables are made of. Declarations in `millrace/relations` compile to these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from millrace.errors import Bug

ColumnType = Literal["bigint", "int", "bool", "text", "bytes"]
_BLANK: Mapping[ColumnType, int | bool | str | bytes] = {
    "bigint": 0,
    "int": 0,
    "bool": False,
    "text": "",
    "bytes": b"",
}

SHARDS = 4096


@dataclass(frozen=True, slots=True)
class Column:
    """A column is never null: what is absent is 0, False or empty."""

    name: str
    type: ColumnType = "bigint"

    @property
    def blank(self) -> int | bool | str | bytes:
        return _BLANK[self.type]


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows by key. Each row has also `number` (of its last event) and `ended`.

    `reusable`: an ended key may be created or put again (a freed name), so that an end, too,
    has its place in the row's order. `claimed`: creations carry (actor, request_id) and the
    first of each counts; they are kept in `<name>_requests`.
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

    def counter(self, *, inverse: bool) -> str:
        """Name of the count table. Raises Bug where the relation declares none."""
        name = self.inverse_count if inverse else self.count
        if not name:
            raise Bug(f"{self.name} is not counted by {self.target if inverse else self.source}")
        return name

    def inverted(self) -> str:
        """Name of the inverse table. Raises Bug where the relation declares none."""
        if not self.inverse:
            raise Bug(f"{self.name} has no inverse")
        return self.inverse


@dataclass(frozen=True, slots=True)
class ViewSchema:
    """All tables of one view; they share its positions and its transactions."""

    view: str
    topics: tuple[str, ...]
    rows: tuple[RowTable, ...] = ()
    edges: tuple[EdgeTable, ...] = ()
