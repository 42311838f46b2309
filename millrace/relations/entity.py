"""Rows by key: what a user is, what a photo is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.errors import Bug, InvalidRequest
from millrace.log.codec import Event
from millrace.stores.cache_port import TTL_S_MAX
from millrace.stores.changes import (
    Claim,
    EdgeChange,
    Key,
    RowCreate,
    RowEnd,
    RowPut,
    RowUpdate,
    Scalar,
)
from millrace.stores.fold import ClaimKey, ClaimRow, Row
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column, RowTable

READ_KEYS_MAX = 100


@dataclass(frozen=True, slots=True)
class Entity:
    """`key` and `columns` give the table; `reusable` and `claimed` as in `RowTable`.

    `cache_ttl_s`: how long a row, or that there is none, is kept in the cache, 0 for not at all.
    `policy`: the policy reads it, so that nobody is ever served a stale one.
    """

    name: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    reusable: bool = False
    claimed: bool = False
    cache_ttl_s: int = 0
    policy: bool = False

    def __post_init__(self) -> None:
        """Raises Bug for a declaration that cannot be meant."""
        check_cached(self.name, self.cache_ttl_s)

    @property
    def table(self) -> RowTable:
        return RowTable(self.name, self.key, self.columns, self.reusable, self.claimed)

    def create(
        self,
        event: Event,
        key: Key,
        values: Mapping[str, Scalar],
        *,
        at_ms: int,
        claim: Claim | None = None,
        then: tuple[EdgeChange, ...] = (),
    ) -> RowCreate:
        return RowCreate(self.name, key, values, event.number, event.order, at_ms, claim, then)

    def update(
        self,
        event: Event,
        key: Key,
        values: Mapping[str, Scalar],
        guard: Mapping[str, Scalar] | None = None,
    ) -> RowUpdate:
        return RowUpdate(self.name, key, values, event.number, event.order, guard or {})

    def put(self, event: Event, key: Key, values: Mapping[str, Scalar]) -> RowPut:
        return RowPut(self.name, key, values, event.number, event.order)

    def end(
        self,
        event: Event,
        key: Key,
        guard: Mapping[str, Scalar] | None = None,
        then: tuple[EdgeChange, ...] = (),
    ) -> RowEnd:
        return RowEnd(self.name, key, event.number, event.order, guard or {}, then)

    async def get_many(self, store: ViewStore, keys: Sequence[Key]) -> dict[Key, Row]:
        """Rows that stand, by key. At most 100 keys: more is InvalidRequest."""
        rows = await self.get_many_ended_too(store, keys)
        return _standing(rows)

    async def get_many_ended_too(self, store: ViewStore, keys: Sequence[Key]) -> dict[Key, Row]:
        _bounded(self.name, keys)
        return await store.get_many(self.table, keys) if keys else {}

    async def numbers(self, store: ViewStore, keys: Sequence[Key]) -> dict[Key, int]:
        """As `get_many`, but of each row only the number of its last event."""
        _bounded(self.name, keys)
        return await store.numbers(self.table, keys) if keys else {}

    async def linked(
        self, store: ViewStore, keys: Sequence[Key], column: str, other: "Entity", wanted: str
    ) -> dict[Key, tuple[Scalar, Scalar | None]]:
        """As `get_many`, but of each row only `column`, and `wanted` of what that names in `other`;
        None where that does not stand.
        """
        _bounded(self.name, keys)
        return await store.linked(self.table, keys, column, other.table, wanted) if keys else {}

    async def claimed_by(
        self, store: ViewStore, actor_id: int, request_id: bytes
    ) -> ClaimRow | None:
        """Which row this request of this actor has created, if any."""
        key: ClaimKey = (actor_id, request_id)
        return (await store.claims(self.table, [key])).get(key)


def check_cached(name: str, cache_ttl_s: int, *kinds: bool) -> None:
    """Raises Bug for a time to live that the cache cannot keep, and for kinds without one."""
    if not 0 <= cache_ttl_s <= TTL_S_MAX:
        raise Bug(f"{name}: nothing is cached for {cache_ttl_s} s")
    if any(kinds) and not cache_ttl_s:
        raise Bug(f"{name}: cached, but for how long?")


def _bounded(name: str, keys: Sequence[Key]) -> None:
    if len(keys) > READ_KEYS_MAX:
        raise InvalidRequest(f"{len(keys)} keys of {name}: at most {READ_KEYS_MAX}")


def _standing(rows: Mapping[Key, Row]) -> dict[Key, Row]:
    return {key: row for key, row in rows.items() if not row.ended}
