"""The view store in memory: for the simulator and property tests only."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice

from millrace.errors import FailedPrecondition, PoisonEvent, PositionMoved
from millrace.stores.changes import Batch, EdgeChange, Key, Scalar
from millrace.stores.fold import ClaimKey, ClaimRow, EdgeFinal, Row, fold, wanted
from millrace.stores.port import EdgeRow, PositionRow, StoredPosition
from millrace.stores.schema import SHARDS, EdgeTable, RowTable, ViewSchema

_INT64_MAX = 2**63 - 1


class _Edges:
    """One edge table: state by pair, and sorted live targets by source and back."""

    def __init__(self) -> None:
        self.state: dict[tuple[int, int], tuple[bool, int, int, int]] = {}
        self.targets: defaultdict[int, list[int]] = defaultdict(list)
        self.sources: defaultdict[int, list[int]] = defaultdict(list)

    def apply(self, pair: tuple[int, int], final: EdgeFinal) -> None:
        live, number, version, at_ms = self.state.get(pair, (False, 0, 0, 0))
        if number >= final.order:
            return
        if final.live and (not live or final.ended):
            version, at_ms = final.begun, final.begun_at_ms
        self.state[pair] = (final.live, final.order, version, at_ms)
        if live == final.live:
            return
        source, target = pair
        for ids, other in ((self.targets[source], target), (self.sources[target], source)):
            if final.live:
                insort(ids, other)
            else:
                del ids[bisect_left(ids, other)]

    def row(self, pair: tuple[int, int]) -> EdgeRow:
        _, _, version, at_ms = self.state[pair]
        return EdgeRow(*pair, version, at_ms)


class MemoryStore:
    """Implements `ViewStore`. One process, no durability."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, dict[Key, Row]] = defaultdict(dict)
        self._claims: defaultdict[str, dict[ClaimKey, ClaimRow]] = defaultdict(dict)
        self._edges: defaultdict[str, _Edges] = defaultdict(_Edges)
        self._positions: defaultdict[str, dict[tuple[str, int], StoredPosition]] = defaultdict(dict)

    async def open_view(
        self, schema: ViewSchema, partitions: Mapping[str, int], log_id: int
    ) -> None:
        stored = self._positions[schema.view]
        if any(row.log_id != log_id for row in stored.values()):
            raise FailedPrecondition(f"view {schema.view} belongs to another log")
        epoch = max((row.epoch for row in stored.values()), default=1)
        for topic in schema.topics:
            for partition in range(partitions[topic]):
                stored.setdefault((topic, partition), StoredPosition(epoch, log_id, 0))

    async def apply(self, schema: ViewSchema, batch: Batch) -> None:
        stored = self._positions[batch.view]
        for move in batch.moves:
            row = stored.get((move.topic, move.partition))
            if row is None or row.position != move.start:
                raise PositionMoved(f"{batch.view} {move.topic}/{move.partition}")
        _refuse_what_postgres_refuses(batch)
        asked = wanted(batch.changes)
        folded = fold(
            schema,
            batch.changes,
            {name: self._rows[name] for name in asked.rows},
            {name: self._claims[name] for name in asked.claims},
        )
        for name, rows in folded.rows.items():
            self._rows[name].update(rows)
        for name, claims in folded.claims.items():
            self._claims[name].update(claims)
        for name, edges in folded.edges.items():
            for pair, final in edges.items():
                self._edges[name].apply(pair, final)
        for move in batch.moves:
            key = (move.topic, move.partition)
            stored[key] = stored[key]._replace(position=move.end)

    async def positions(self, view: str) -> dict[tuple[str, int], StoredPosition]:
        return dict(self._positions[view])

    async def all_positions(self) -> list[PositionRow]:
        return [
            PositionRow(view, 0, SHARDS, topic, partition, *stored)
            for view, rows in sorted(self._positions.items())
            for (topic, partition), stored in sorted(rows.items())
        ]

    async def raise_epoch(self, view: str) -> int:
        rows = self._positions[view]
        epoch = max(row.epoch for row in rows.values()) + 1
        for key, row in rows.items():
            rows[key] = row._replace(epoch=epoch)
        return epoch

    async def get_many(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
        rows = self._rows[table.name]
        return {
            key: Row(dict(rows[key].values), rows[key].number, rows[key].ended)
            for key in keys
            if key in rows
        }

    async def claims(self, table: RowTable, keys: Sequence[ClaimKey]) -> dict[ClaimKey, ClaimRow]:
        claims = self._claims[table.name]
        return {key: claims[key] for key in keys if key in claims}

    async def edges(
        self, table: EdgeTable, pairs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], EdgeRow]:
        edges = self._edges[table.name]
        return {pair: edges.row(pair) for pair in pairs if edges.state.get(pair, (False,))[0]}

    async def page(
        self,
        table: EdgeTable,
        source: int,
        *,
        after: int | None = None,
        limit: int,
        inverse: bool = False,
    ) -> list[EdgeRow]:
        edges = self._edges[table.name]
        if inverse:
            found = islice(_upwards(edges.sources[source], after), limit)
            return [edges.row((other, source)) for other in found]
        step = _downwards if table.newest_first else _upwards
        return [
            edges.row((source, target))
            for target in islice(step(edges.targets[source], after), limit)
        ]

    async def merged_page(
        self, table: EdgeTable, sources: Sequence[int], *, before: int | None = None, limit: int
    ) -> list[EdgeRow]:
        edges = self._edges[table.name]
        newest = islice(
            merge(
                *(
                    [(-target, source) for target in _downwards(edges.targets[source], before)]
                    for source in dict.fromkeys(sources)
                )
            ),
            limit,
        )
        return [edges.row((source, -target)) for target, source in newest]

    async def count(
        self, table: EdgeTable, ids: Sequence[int], *, inverse: bool = False
    ) -> dict[int, int]:
        edges = self._edges[table.name]
        lists = edges.sources if inverse else edges.targets
        return {one: len(lists[one]) for one in ids}

    async def scan_edges(self, table: EdgeTable) -> Iterable[EdgeRow]:
        edges = self._edges[table.name]
        return [edges.row(pair) for pair, state in sorted(edges.state.items()) if state[0]]

    async def close(self) -> None:
        return None


def _upwards(ids: list[int], after: int | None) -> Iterable[int]:
    return ids[0 if after is None else bisect_right(ids, after) :]


def _downwards(ids: list[int], before: int | None) -> Iterable[int]:
    return reversed(ids[: len(ids) if before is None else bisect_left(ids, before)])


def _refuse_what_postgres_refuses(batch: Batch) -> None:
    """A twin that takes more than the real store would hide poison."""
    for change in batch.changes:
        if isinstance(change, EdgeChange):
            values: Iterable[Scalar] = (change.source, change.target)
        else:
            values = (*change.key, *getattr(change, "values", {}).values())
        for value in values:
            if isinstance(value, str) and "\0" in value:
                raise PoisonEvent("text with a zero byte")
            if isinstance(value, int) and not -_INT64_MAX - 1 <= value <= _INT64_MAX:
                raise PoisonEvent("a number beyond 64 bits")
