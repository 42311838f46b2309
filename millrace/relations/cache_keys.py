"""What is cached, under which key, and which keys a change touches. All from the declarations.

    <log>:<table>.<kind>.<schema>:<id>     5f3a…:likes.count.9c01d2:8371

The log's id keeps installations apart that share servers; the schema, a hash of what a value of
this kind consists of, versions of the code that would read each other's values wrongly.

Kinds:   row (Entity); count, inverse_count (where counted), page (the first `PAGE_ROWS`),
         inverse_page, pair (where declared), whole (all of a source, where it has a limit)
Not:     who invalidates (streams), what the values are (`cache_values`)
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from millrace.errors import Bug
from millrace.relations.edge import Edge, Timeline
from millrace.relations.entity import Entity
from millrace.relations.view import View
from millrace.stores.changes import Change, EdgeChange, Key, RowCreate, RowEnd, Scalar

# Goes up when the values of any kind are written otherwise.
FORMAT = 1
# The largest page of the contract, and one more that tells whether there is a next.
PAGE_ROWS = 101
_SCHEMA_BYTES = 3
_PART_BYTES_MAX = 64


class Touched(NamedTuple):
    """Keys, each once. `stale`: to be marked so; `deleted`: to be deleted, since the policy reads
    them.
    """

    stale: list[bytes]
    deleted: list[bytes]


@dataclass(frozen=True, slots=True)
class RowKeys:
    """Of one entity."""

    begin: bytes
    ttl_s: int
    policy: bool

    def key(self, key: Key) -> bytes:
        return self.begin + b",".join(map(_part, key))


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """Of one edge or timeline: how its keys begin, kind by kind; empty for a kind that is not
    cached. The id of a source follows (`inverse_…`: of a target), or both, with a comma (`pair`).
    `policy`: of all but the counts, which the policy never reads.
    """

    count: bytes
    inverse_count: bytes
    page: bytes
    inverse_page: bytes
    whole: bytes
    pair: bytes
    ttl_s: int
    policy: bool

    def touched(self, pairs: Iterable[tuple[int, int]]) -> Touched:
        """By pairs (source, target) that begin or end: the fast path, without changes."""
        wanted = set(pairs)
        if not wanted:
            return Touched([], [])
        sources = {source for source, _ in wanted}
        targets = {target for _, target in wanted}
        counts = [begin + b"%d" % one for begin in _of(self.count) for one in sources]
        counts += [begin + b"%d" % one for begin in _of(self.inverse_count) for one in targets]
        lists = [begin + b"%d" % one for begin in _of(self.page, self.whole) for one in sources]
        lists += [begin + b"%d" % one for begin in _of(self.inverse_page) for one in targets]
        lists += [begin + b"%d,%d" % pair for begin in _of(self.pair) for pair in wanted]
        return Touched(counts, lists) if self.policy else Touched(counts + lists, [])


class CacheKeys:
    """Of all views over one log. `position`: where each server keeps how far it is."""

    def __init__(self, log_id: int, views: Sequence[View]) -> None:
        """Raises Bug for two tables of one name."""
        self.rows: dict[str, RowKeys] = {}
        self.edges: dict[str, EdgeKeys] = {}
        for entity in chain.from_iterable(view.entities for view in views):
            if entity.cache_ttl_s:
                self.rows[entity.name] = _row_keys(log_id, entity)
        for edge in chain.from_iterable(view.edges for view in views):
            if edge.cache_ttl_s:
                self.edges[edge.name] = _edge_keys(log_id, edge)
        names = [
            declared.name
            for view in views
            for declared in (*view.entities, *view.edges)
            if declared.cache_ttl_s
        ]
        if len(set(names)) < len(names):
            raise Bug("two cached tables have one name")
        # Another version of the code may cache more, or otherwise: who invalidates says for which
        # version he does, and who reads asks whether it is his.
        schema = _hash(sorted((repr(one) for one in self._declared()), key=str))
        self.position = b"%x:position.%b" % (log_id, schema)

    def touched(self, changes: Iterable[Change]) -> Touched:
        """What is no longer as cached when these are applied. Too much where a change turns out to
        change nothing, never too little.
        """
        stale: dict[bytes, None] = {}
        deleted: dict[bytes, None] = {}
        pairs: dict[str, list[tuple[int, int]]] = {}
        for change in changes:
            if isinstance(change, EdgeChange):
                pairs.setdefault(change.table, []).append((change.source, change.target))
                continue
            if (keys := self.rows.get(change.table)) is not None:
                (deleted if keys.policy else stale)[keys.key(change.key)] = None
            if isinstance(change, RowCreate | RowEnd):
                for edge in change.then:
                    pairs.setdefault(edge.table, []).append((edge.source, edge.target))
        for table, some in pairs.items():
            if (edge_keys := self.edges.get(table)) is not None:
                by_edges = edge_keys.touched(some)
                stale.update(dict.fromkeys(by_edges.stale))
                deleted.update(dict.fromkeys(by_edges.deleted))
        return Touched(list(stale), list(deleted))

    def _declared(self) -> Iterable[RowKeys | EdgeKeys]:
        yield from self.rows.values()
        yield from self.edges.values()


def _row_keys(log_id: int, entity: Entity) -> RowKeys:
    schema = _hash([(column.name, column.type) for column in (*entity.key, *entity.columns)])
    begin = b"%x:%b.row.%b:" % (log_id, entity.name.encode(), schema)
    return RowKeys(begin, entity.cache_ttl_s, entity.policy)


def _edge_keys(log_id: int, edge: Edge | Timeline) -> EdgeKeys:
    table = edge.table
    schema = _hash([table.newest_first])

    def begin(kind: str, *, cached: bool) -> bytes:
        if not cached:
            return b""
        return b"%x:%b.%b.%b:" % (log_id, table.name.encode(), kind.encode(), schema)

    return EdgeKeys(
        count=begin("count", cached=bool(table.count)),
        inverse_count=begin("inverse_count", cached=bool(table.inverse_count)),
        page=begin("page", cached=True),
        inverse_page=begin("inverse_page", cached=isinstance(edge, Edge) and edge.cached_inverse),
        whole=begin("whole", cached=isinstance(edge, Edge) and edge.limit > 0),
        pair=begin("pair", cached=isinstance(edge, Edge) and edge.cached_pairs),
        ttl_s=edge.cache_ttl_s,
        policy=edge.policy,
    )


def _of(*begins: bytes) -> Iterable[bytes]:
    return filter(None, begins)


def _hash(described: object) -> bytes:
    told = repr((FORMAT, described)).encode()
    return hashlib.blake2s(told, digest_size=_SCHEMA_BYTES).hexdigest().encode()


def _part(value: Scalar) -> bytes:
    if isinstance(value, int):
        return b"%d" % value
    said = value.encode() if isinstance(value, str) else value
    if len(said) > _PART_BYTES_MAX:
        said = hashlib.blake2b(said).digest()
    return base64.urlsafe_b64encode(said).rstrip(b"=")
