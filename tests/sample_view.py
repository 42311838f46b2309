"""A view with one table of each kind, and a dict model of what stores must make of its events.

The model takes one event after the other; it knows nothing of batches, folding or SQL.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.stores.changes import (
    Change,
    Claim,
    EdgeChange,
    Key,
    RowCreate,
    RowEnd,
    RowPut,
    RowUpdate,
    Scalar,
)
from millrace.stores.schema import Column, EdgeTable, RowTable, ViewSchema

PARTITIONS = 3
LOG_ID = 77

ITEMS = RowTable(
    "items",
    key=(Column("item_id"),),
    columns=(
        Column("owner_id"),
        Column("size", "int"),
        Column("hidden", "bool"),
        Column("title", "text"),
        Column("digest", "bytes"),
    ),
    claimed=True,
)
LABELS = RowTable("labels", (Column("label", "bytes"),), (Column("holder_id"),), reusable=True)
CELLS = RowTable(
    "cells",
    key=(
        Column("room_id"),
        Column("row", "int"),
        Column("word", "text"),
        Column("tag", "bytes"),
        Column("left", "bool"),
    ),
    columns=(Column("body", "bytes"),),
    reusable=True,
)
BONDS = EdgeTable(
    "bonds",
    "giver_id",
    "taker_id",
    inverse="bonds_by_taker",
    count="bonds_count",
    inverse_count="bonds_by_taker_count",
)
SHELF = EdgeTable("shelf", "owner_id", "item_id", count="shelf_count", newest_first=True)
SAMPLE = ViewSchema("sample", topics=("alpha",), rows=(ITEMS, LABELS, CELLS), edges=(BONDS, SHELF))
TOPIC = "alpha"


def bond(giver: int, taker: int, number: int, *, live: bool = True, order: int = 0) -> EdgeChange:
    return EdgeChange("bonds", giver, taker, live, number, order or number, 1_000 + number)


def item(
    item_id: int, owner: int, number: int, request: bytes = b"", **values: Scalar
) -> RowCreate:
    """An item that goes onto its owner's shelf; claimed where there is a request."""
    claim = Claim(owner, request, b"body of " + request) if request else None
    shown = (EdgeChange("shelf", owner, item_id, True, number, number, 1_000 + number),)
    filled: dict[str, Scalar] = {"owner_id": owner, **values}
    return RowCreate("items", (item_id,), filled, number, number, 1_000 + number, claim, shown)


def title(item_id: int, owner: int, number: int, text: str) -> RowUpdate:
    return RowUpdate("items", (item_id,), {"title": text}, number, number, {"owner_id": owner})


def item_end(item_id: int, owner: int, number: int) -> RowEnd:
    gone = (EdgeChange("shelf", owner, item_id, False, number, number, 1_000 + number),)
    return RowEnd("items", (item_id,), number, number, {"owner_id": owner}, gone)


def label(name: bytes, holder: int, number: int) -> RowCreate:
    return RowCreate("labels", (name,), {"holder_id": holder}, number, number, 1_000 + number)


def label_end(name: bytes, holder: int, number: int) -> RowEnd:
    return RowEnd("labels", (name,), number, number, {"holder_id": holder})


def cell(room: int, number: int, body: bytes) -> RowPut:
    return RowPut("cells", cell_key(room), {"body": body}, number, number)


def cell_end(room: int, number: int) -> RowEnd:
    return RowEnd("cells", cell_key(room), number, number, {})


def cell_key(room: int) -> Key:
    return (room, -room, f"wörd {room}", b"\0tag", room % 2 == 0)


@dataclass
class ModelRow:
    values: dict[str, Scalar]
    number: int
    ended: bool = False


@dataclass
class Model:
    """`edges`: (live, order, version, at_ms) by table and pair."""

    rows: dict[tuple[str, Key], ModelRow] = field(default_factory=dict)
    claims: dict[tuple[int, bytes], tuple[int, bytes, int, int]] = field(default_factory=dict)
    edges: dict[tuple[str, int, int], tuple[bool, int, int, int]] = field(default_factory=dict)

    def take(self, change: Change) -> None:
        takers: dict[type, Callable[..., None]] = {
            EdgeChange: self._edge,
            RowCreate: self._create,
            RowUpdate: self._update,
            RowPut: self._put,
            RowEnd: self._end,
        }
        takers[type(change)](change)

    def live(self, table: str) -> dict[tuple[int, int], tuple[int, int]]:
        """(version, at_ms) of live edges by pair."""
        return {
            (source, target): (version, at_ms)
            for (name, source, target), (live, _, version, at_ms) in self.edges.items()
            if name == table and live
        }

    def counts(self, table: str, side: int) -> dict[int, int]:
        """Live edges by source (side 0) or by target (side 1), without those of none."""
        return dict(Counter(pair[side] for pair in self.live(table)))

    def _edge(self, change: EdgeChange) -> None:
        key = (change.table, change.source, change.target)
        live, order, version, at_ms = self.edges.get(key, (False, 0, 0, 0))
        if change.order <= order:
            return
        if change.live and not live:
            version, at_ms = change.number, change.at_ms
        self.edges[key] = (change.live, change.order, version, at_ms)

    def _create(self, change: RowCreate) -> None:
        row = self.rows.get((change.table, change.key))
        free_again = row and row.ended and change.table == "labels" and change.order > row.number
        if row and not free_again:
            return
        if change.claim:
            actor, request, body = change.claim
            if (actor, request) in self.claims:
                return
            item_id = change.key[0]
            assert isinstance(item_id, int)
            self.claims[actor, request] = (item_id, body, change.number, change.at_ms)
        blank: dict[str, Scalar] = {"size": 0, "hidden": False, "title": "", "digest": b""}
        values = {**(blank if change.table == "items" else {}), **change.values}
        self.rows[change.table, change.key] = ModelRow(values, change.order)
        for edge in change.then:
            self._edge(edge)

    def _update(self, change: RowUpdate) -> None:
        row = self.rows.get((change.table, change.key))
        if row and not row.ended and row.number < change.order and _holds(change.guard, row):
            row.values |= change.values
            row.number = change.order

    def _put(self, change: RowPut) -> None:
        row = self.rows.get((change.table, change.key))
        if not row or row.number < change.order:
            self.rows[change.table, change.key] = ModelRow(dict(change.values), change.order)

    def _end(self, change: RowEnd) -> None:
        row = self.rows.get((change.table, change.key))
        if not row and change.table == "cells":
            self.rows["cells", change.key] = ModelRow({"body": b""}, change.order, ended=True)
        if not row or row.ended or not _holds(change.guard, row):
            return
        if change.table != "items" and row.number >= change.order:
            return
        row.ended = True
        row.number = max(row.number, change.order)
        for edge in change.then:
            self._edge(edge)


def _holds(guard: object, row: ModelRow) -> bool:
    assert isinstance(guard, dict)
    return all(row.values.get(name) == value for name, value in guard.items())
