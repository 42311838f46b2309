"""Folds a batch of changes to one final state a key. Pure: every store applies the same fold.

A store reads the rows and claims that `wanted` names, folds, and writes what `fold` returns.
That is safe because every row has one owner, hence one partition, hence one writer at a time:
the transaction has moved the partition's position before it reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from millrace.errors import Bug
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
from millrace.stores.schema import RowTable, ViewSchema


@dataclass(slots=True)
class Row:
    """A row as stored. An ended row is kept as a tombstone; its values are the last ones."""

    values: dict[str, Scalar]
    number: int
    ended: bool = False


class ClaimRow(NamedTuple):
    """Which row the first request of (actor, request_id) created."""

    key: int
    body: bytes
    number: int
    at_ms: int


ClaimKey = tuple[int, bytes]


@dataclass(slots=True)
class EdgeFinal:
    """The last state of an edge in a batch.

    `begun` is the number of the event that began its last life *within the batch*, 0 if none;
    `ended` says that it ended at least once in the batch. Where it was live before and did not
    end, its old version stands.
    """

    live: bool
    number: int
    order: int
    begun: int
    begun_at_ms: int
    ended: bool


@dataclass(slots=True)
class Wanted:
    """What a store has to read before it folds."""

    rows: dict[str, list[Key]] = field(default_factory=dict)
    claims: dict[str, list[ClaimKey]] = field(default_factory=dict)


@dataclass(slots=True)
class Folded:
    """What a store has to write: whole rows, new claims, final edges.

    Edges come in rounds, to be applied one after another; there is more than one only where a
    dead letter is tried again.
    """

    rows: dict[str, dict[Key, Row]] = field(default_factory=dict)
    claims: dict[str, dict[ClaimKey, ClaimRow]] = field(default_factory=dict)
    edges: dict[str, list[dict[tuple[int, int], EdgeFinal]]] = field(default_factory=dict)


class EdgesOnce(NamedTuple):
    """Changes of one edge table, each edge once, as columns: what `EdgeFinal` says, without one
    object an edge.
    """

    table: str
    sources: Sequence[int]
    targets: Sequence[int]
    orders: Sequence[int]
    begun: Sequence[int]
    begun_at_ms: Sequence[int]
    ended: Sequence[bool]


def edges_once(changes: Sequence[Change]) -> EdgesOnce | None:
    """As `fold`, at a third of the cost, for what most batches of edges are. None for others."""
    if not changes or not all(isinstance(change, EdgeChange) for change in changes):
        return None
    columns: Any = zip(*changes, strict=True)
    tables, sources, targets, lives, numbers, orders, at_ms = columns
    if len(set(tables)) > 1 or len(set(zip(sources, targets, strict=True))) < len(changes):
        return None
    begun = [number if live else 0 for number, live in zip(numbers, lives, strict=True)]
    ended = [not live for live in lives]
    return EdgesOnce(tables[0], sources, targets, orders, begun, at_ms, ended)


def wanted(changes: Iterable[Change]) -> Wanted:
    rows: dict[str, dict[Key, None]] = {}
    claims: dict[str, dict[ClaimKey, None]] = {}
    for change in changes:
        if isinstance(change, EdgeChange):
            continue
        rows.setdefault(change.table, {})[change.key] = None
        if isinstance(change, RowCreate) and change.claim is not None:
            claim = change.claim
            claims.setdefault(change.table, {})[(claim.actor_id, claim.request_id)] = None
    return Wanted(
        {table: list(keys) for table, keys in rows.items()},
        {table: list(keys) for table, keys in claims.items()},
    )


def fold(
    schema: ViewSchema,
    changes: Iterable[Change],
    rows: Mapping[str, Mapping[Key, Row]],
    claims: Mapping[str, Mapping[ClaimKey, ClaimRow]],
) -> Folded:
    """`rows` and `claims`: what stands now of what `wanted` named. Neither is changed."""
    return _Fold(schema, rows, claims).run(changes)


class _Fold:
    def __init__(
        self,
        schema: ViewSchema,
        rows: Mapping[str, Mapping[Key, Row]],
        claims: Mapping[str, Mapping[ClaimKey, ClaimRow]],
    ) -> None:
        self._tables: dict[str, RowTable] = {table.name: table for table in schema.rows}
        self._edge_tables = {table.name for table in schema.edges}
        self._rows = rows
        self._claims = claims
        self._out = Folded()

    def run(self, changes: Iterable[Change]) -> Folded:
        for change in changes:
            if isinstance(change, EdgeChange):
                self._edge(change)
            elif isinstance(change, RowCreate):
                self._create(change)
            elif isinstance(change, RowUpdate):
                self._update(change)
            elif isinstance(change, RowPut):
                self._put(change)
            else:
                self._end(change)
        return self._out

    def _row(self, table: str, key: Key) -> Row | None:
        changed = self._out.rows.get(table, {}).get(key)
        return changed if changed is not None else self._rows.get(table, {}).get(key)

    def _write(self, table: str, key: Key, row: Row) -> None:
        self._out.rows.setdefault(table, {})[key] = row

    def _claim_is_new(self, table: str, claim: Claim) -> bool:
        key = (claim.actor_id, claim.request_id)
        return key not in self._out.claims.get(table, {}) and key not in self._claims.get(table, {})

    def _create(self, change: RowCreate) -> None:
        standing = self._row(change.table, change.key)
        if standing is not None and not self._free_again(change, standing):
            return
        claim = change.claim
        if claim is not None:
            if not self._claim_is_new(change.table, claim):
                return
            row_id = change.key[0]
            if not isinstance(row_id, int):
                raise Bug(f"{change.table} is claimed, so its key must be an id")
            self._out.claims.setdefault(change.table, {})[(claim.actor_id, claim.request_id)] = (
                ClaimRow(row_id, claim.body, change.number, change.at_ms)
            )
        self._write(change.table, change.key, self._whole(change))
        for edge in change.then:
            self._edge(edge)

    def _free_again(self, change: RowCreate | RowPut, standing: Row) -> bool:
        reusable = self._tables[change.table].reusable
        return reusable and standing.ended and standing.number < change.order

    def _whole(self, change: RowCreate | RowPut) -> Row:
        columns = self._tables[change.table].columns
        values = {column.name: change.values.get(column.name, column.blank) for column in columns}
        return Row(values, change.order)

    def _update(self, change: RowUpdate) -> None:
        standing = self._row(change.table, change.key)
        if standing is None or standing.ended or standing.number >= change.order:
            return
        if not _holds(change.guard, standing):
            return
        values = {**standing.values, **change.values}
        self._write(change.table, change.key, Row(values, change.order))

    def _put(self, change: RowPut) -> None:
        standing = self._row(change.table, change.key)
        if standing is not None and standing.ended and not self._free_again(change, standing):
            return
        if standing is None or standing.number < change.order:
            self._write(change.table, change.key, self._whole(change))

    def _end(self, change: RowEnd) -> None:
        table = self._tables[change.table]
        standing = self._row(change.table, change.key)
        if standing is None and table.reusable and not change.guard:
            # The put that it ends may be a dead letter: tried again, it must not come to life.
            blanks = {column.name: column.blank for column in table.columns}
            self._write(change.table, change.key, Row(blanks, change.order, ended=True))
            return
        if standing is None or standing.ended or not _holds(change.guard, standing):
            return
        # Events that come again: an end that once changed nothing must not end what came later.
        # A dead letter is different: nothing but an end could follow it.
        first_try = change.order == change.number
        if standing.number >= change.order and (first_try or table.reusable):
            return
        number = max(standing.number, change.order)
        self._write(change.table, change.key, Row(dict(standing.values), number, ended=True))
        for edge in change.then:
            self._edge(edge)

    def _edge(self, change: EdgeChange) -> None:
        table, source, target, live, number, order, at_ms = change
        if table not in self._edge_tables:
            raise Bug(f"no edge table {table} in this view")
        rounds = self._out.edges.setdefault(table, [{}])
        last = rounds[-1].get((source, target))
        # Whether a retried event counts depends on what is stored, so it is folded with nothing.
        if last is not None and (order != number or last.order != last.number):
            rounds.append({})
            last = None
        if last is None:
            begun = number if live else 0
            rounds[-1][source, target] = EdgeFinal(live, number, order, begun, at_ms, not live)
            return
        if last.order >= order:
            return
        if live and not last.live:
            last.begun, last.begun_at_ms = number, at_ms
        last.ended = last.ended or not live
        last.live, last.number, last.order = live, number, order


def _holds(guard: Mapping[str, Scalar], row: Row) -> bool:
    return all(row.values.get(column) == value for column, value in guard.items())
