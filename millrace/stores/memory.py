"""The view store in memory: for the simulator and property tests only."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import TypeVar

from millrace.errors import Bug, FailedPrecondition, PositionMoved
from millrace.stores.changes import Batch, Key, Scalar
from millrace.stores.fold import ClaimKey, ClaimRow, EdgeFinal, Row, fold, wanted
from millrace.stores.port import EdgeRow, PositionRow, StoredPosition, ViewStore
from millrace.stores.schema import SHARDS, EdgeTable, RowTable, ViewSchema
from millrace.stores.values import check_changes, check_edges, check_ids, check_keys

T = TypeVar("T")


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
        check_changes(schema, batch.changes)
        stored = self._positions[batch.view]
        if len({(move.topic, move.partition) for move in batch.moves}) != len(batch.moves):
            raise Bug("a batch moves a position twice")
        for move in batch.moves:
            row = stored.get((move.topic, move.partition))
            if row is None or row.position != move.start:
                raise PositionMoved(f"{batch.view} {move.topic}/{move.partition}")
        check_edges(batch.changes)
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
        for name, rounds in folded.edges.items():
            for pair, final in chain.from_iterable(edges.items() for edges in rounds):
                self._edges[name].apply(pair, final)
        for move in batch.moves:
            key = (move.topic, move.partition)
            stored[key] = stored[key]._replace(position=move.end)

    async def positions(self, view: str) -> dict[tuple[str, int], StoredPosition]:
        return dict(self._positions[view])

    async def at_one_moment(
        self, view: str, read: Callable[[ViewStore], Awaitable[T]]
    ) -> tuple[dict[tuple[str, int], StoredPosition], T]:
        # Nothing here waits, so nothing comes in between.
        return await self.positions(view), await read(self)

    async def all_positions(self) -> list[PositionRow]:
        return [
            PositionRow(view, 0, SHARDS, topic, partition, *stored)
            for view, rows in sorted(self._positions.items())
            for (topic, partition), stored in sorted(rows.items())
        ]

    async def raise_epoch(self, view: str, at_least: int = 0) -> int:
        rows = self._positions[view]
        if not rows:
            raise FailedPrecondition(f"view {view} was never opened")
        epoch = max(max(row.epoch for row in rows.values()) + 1, at_least)
        for key, row in rows.items():
            rows[key] = row._replace(epoch=epoch)
        return epoch

    async def get_many(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
        check_keys(table, keys)
        rows = self._rows[table.name]
        return {
            key: Row(dict(rows[key].values), rows[key].number, rows[key].ended)
            for key in keys
            if key in rows
        }

    async def numbers(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, int]:
        rows = await self.get_many(table, keys)
        return {key: row.number for key, row in rows.items() if not row.ended}

    async def linked(
        self, table: RowTable, keys: Sequence[Key], column: str, other: RowTable, wanted: str
    ) -> dict[Key, tuple[Scalar, Scalar | None]]:
        found: dict[Key, tuple[Scalar, Scalar | None]] = {}
        for key, row in (await self.get_many(table, keys)).items():
            named = row.values[column]
            theirs = self._rows[other.name].get((named,))
            stands = theirs is not None and not theirs.ended
            if not row.ended:
                found[key] = named, theirs.values[wanted] if theirs and stands else None
        return found

    async def claims(self, table: RowTable, keys: Sequence[ClaimKey]) -> dict[ClaimKey, ClaimRow]:
        if not table.claimed:
            raise Bug(f"{table.name} takes no claims")
        check_ids(actor_id for actor_id, _ in keys)
        claims = self._claims[table.name]
        return {key: claims[key] for key in keys if key in claims}

    async def edges(
        self, table: EdgeTable, pairs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], EdgeRow]:
        check_ids(one for pair in pairs for one in pair)
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
        check_ids([source])
        edges = self._edges[table.name]
        if inverse:
            table.inverted()
            found = islice(_upwards(edges.sources[source], after), limit)
            return [edges.row((other, source)) for other in found]
        step = _downwards if table.newest_first else _upwards
        return [
            edges.row((source, target))
            for target in islice(step(edges.targets[source], after), limit)
        ]

    async def inverse_ids(
        self, table: EdgeTable, targets: Sequence[int], *, limit: int
    ) -> dict[int, list[int]]:
        table.inverted()
        edges = self._edges[table.name]
        return {target: edges.sources.get(target, [])[:limit] for target in targets}

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
        table.counter(inverse=inverse)
        check_ids(ids)
        edges = self._edges[table.name]
        lists = edges.sources if inverse else edges.targets
        return {one: len(lists[one]) for one in ids}

    async def scan_rows(self, table: RowTable) -> AsyncIterator[tuple[Key, Row]]:
        rows = self._rows[table.name]
        for key, row in sorted(rows.items(), key=itemgetter(0)):
            yield key, Row(dict(row.values), row.number, row.ended)

    async def scan_edges(self, table: EdgeTable) -> AsyncIterator[EdgeRow]:
        edges = self._edges[table.name]
        for pair in sorted(pair for pair, state in edges.state.items() if state[0]):
            yield edges.row(pair)

    async def scan_counts(
        self, table: EdgeTable, *, inverse: bool = False
    ) -> AsyncIterator[tuple[int, int]]:
        table.counter(inverse=inverse)
        edges = self._edges[table.name]
        lists = edges.sources if inverse else edges.targets
        for one, others in sorted(lists.items()):
            if others:
                yield one, len(others)

    async def close(self) -> None:
        return None


def _upwards(ids: list[int], after: int | None) -> Iterable[int]:
    return ids[0 if after is None else bisect_right(ids, after) :]


def _downwards(ids: list[int], before: int | None) -> Iterable[int]:
    return reversed(ids[: len(ids) if before is None else bisect_left(ids, before)])
