"""Pairs of ids: who follows whom, who likes what; and timelines, which are pairs by time."""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.errors import Bug, InvalidRequest
from millrace.log.codec import Event
from millrace.relations.entity import READ_KEYS_MAX, check_cached
from millrace.stores.changes import EdgeChange
from millrace.stores.port import EdgeRow, ViewStore
from millrace.stores.schema import EdgeTable


@dataclass(frozen=True, slots=True)
class Edge:
    """(source, target), one owner: `owner` names the side whose partition writes it.

    `counted`: how many targets a source has. `inverse`: name of the table by target;
    `inverse_counted`: how many sources a target has. `limit`: most live targets of a source,
    checked when a write is admitted (0 = none). `newest_first`: a source's pages go from the
    largest target down, which is the newest item.

    `cache_ttl_s`: how long counts and first pages (and all of a source where it has a limit) are
    kept in the cache, 0 for not at all. `cached_pairs`, `cached_inverse`: also whether a pair is
    there, and the first page by target. `policy`: the policy reads its pairs and lists, so that
    nobody is ever served a stale one.
    """

    name: str
    source: str
    target: str
    owner: str
    counted: bool = False
    inverse: str = ""
    inverse_counted: bool = False
    limit: int = 0
    newest_first: bool = False
    cache_ttl_s: int = 0
    cached_pairs: bool = False
    cached_inverse: bool = False
    policy: bool = False

    def __post_init__(self) -> None:
        """Raises Bug for a declaration that cannot be meant."""
        if self.owner not in ("source", "target"):
            raise Bug(f"{self.name}: the owner is `source` or `target`, not {self.owner}")
        if self.inverse_counted and not self.inverse:
            raise Bug(f"{self.name}: sources are counted of an inverse only")
        if self.limit < 0:
            raise Bug(f"{self.name}: a limit is 0 (none) or above")
        if self.cached_inverse and not self.inverse:
            raise Bug(f"{self.name}: pages are cached of an inverse that is there only")
        check_cached(self.name, self.cache_ttl_s, self.cached_pairs, self.cached_inverse)

    @property
    def table(self) -> EdgeTable:
        return EdgeTable(
            self.name,
            self.source,
            self.target,
            inverse=self.inverse,
            count=f"{self.name}_count" if self.counted else "",
            inverse_count=f"{self.inverse}_count" if self.inverse_counted else "",
            newest_first=self.newest_first,
        )

    def begin(self, event: Event, source: int, target: int, at_ms: int) -> EdgeChange:
        return EdgeChange(self.name, source, target, True, event.number, event.order, at_ms)

    def end(self, event: Event, source: int, target: int, at_ms: int) -> EdgeChange:
        return EdgeChange(self.name, source, target, False, event.number, event.order, at_ms)

    async def among(
        self, store: ViewStore, pairs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], EdgeRow]:
        """The live ones of at most 100 pairs."""
        _bounded(self.name, len(pairs))
        return await store.edges(self.table, pairs) if pairs else {}

    async def page(
        self, store: ViewStore, source: int, *, after: int | None, limit: int
    ) -> list[EdgeRow]:
        return await store.page(self.table, source, after=after, limit=limit)

    async def inverse_ids(
        self, store: ViewStore, targets: Sequence[int], *, limit: int
    ) -> dict[int, list[int]]:
        """The first `limit` sources of each of at most 100 targets, upwards."""
        _bounded(self.name, len(targets))
        return await store.inverse_ids(self.table, targets, limit=limit) if targets else {}

    async def inverse_page(
        self, store: ViewStore, target: int, *, after: int | None, limit: int
    ) -> list[EdgeRow]:
        return await store.page(self.table, target, after=after, limit=limit, inverse=True)

    async def count(self, store: ViewStore, sources: Sequence[int]) -> dict[int, int]:
        _bounded(self.name, len(sources))
        return await store.count(self.table, sources) if sources else {}

    async def inverse_count(self, store: ViewStore, targets: Sequence[int]) -> dict[int, int]:
        _bounded(self.name, len(targets))
        return await store.count(self.table, targets, inverse=True) if targets else {}


@dataclass(frozen=True, slots=True)
class Timeline:
    """An owner's items, newest (largest id) first. Items begin and end with their entity.

    `cache_ttl_s` and `policy` as in `Edge`.
    """

    name: str
    owner: str
    item: str
    counted: bool = False
    cache_ttl_s: int = 0
    policy: bool = False

    def __post_init__(self) -> None:
        """Raises Bug for a declaration that cannot be meant."""
        check_cached(self.name, self.cache_ttl_s)

    @property
    def table(self) -> EdgeTable:
        return EdgeTable(
            self.name,
            self.owner,
            self.item,
            count=f"{self.name}_count" if self.counted else "",
            newest_first=True,
        )

    def begin(self, event: Event, owner: int, item: int, at_ms: int) -> EdgeChange:
        return EdgeChange(self.name, owner, item, True, event.number, event.order, at_ms)

    def end(self, event: Event, owner: int, item: int, at_ms: int) -> EdgeChange:
        return EdgeChange(self.name, owner, item, False, event.number, event.order, at_ms)

    async def page(
        self, store: ViewStore, owner: int, *, before: int | None, limit: int
    ) -> list[EdgeRow]:
        return await store.page(self.table, owner, after=before, limit=limit)

    async def merged_page(
        self, store: ViewStore, owners: Sequence[int], *, before: int | None, limit: int
    ) -> list[EdgeRow]:
        """The newest items of all owners together. The caller bounds the owners."""
        if not owners:
            return []
        return await store.merged_page(self.table, owners, before=before, limit=limit)

    async def count(self, store: ViewStore, owners: Sequence[int]) -> dict[int, int]:
        _bounded(self.name, len(owners))
        return await store.count(self.table, owners) if owners else {}


def _bounded(name: str, keys: int) -> None:
    if keys > READ_KEYS_MAX:
        raise InvalidRequest(f"{keys} keys of {name}: at most {READ_KEYS_MAX}")
