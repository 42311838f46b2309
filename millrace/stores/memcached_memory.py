"""The cache in memory: for tests and the simulator only."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from millrace.clock import Clock
from millrace.errors import Bug
from millrace.stores.cache_port import Fill, Lease, Look


@dataclass(frozen=True, slots=True)
class _Item:
    """An empty value: nothing, but somebody may have been asked to fill it (`leased`)."""

    value: bytes
    until_s: float
    cas: int
    stale: bool = False
    leased: bool = False


class MemoryCache:
    """Implements `Cache`. `away` makes it the empty cache that a dead one is."""

    def __init__(self, clock: Clock) -> None:
        self.away = False
        self._clock = clock
        self._kept: dict[bytes, _Item] = {}
        self._cas = itertools.count(1)
        self._life = 0

    def restart(self) -> None:
        """As memcached: nothing is kept, and its numbers begin anew."""
        self._kept.clear()
        self._cas = itertools.count(1)
        self._life += 1

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {key: item for key in keys if (item := self._get(key)) is not None}
        # memcached gives the lease of what is stale to any read.
        stale = {key: replace(item, leased=True) for key, item in found.items() if item.stale}
        self._kept.update(stale)
        return {key: item.value for key, item in found.items()}

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        for key, value in values.items():
            self._put(key, _Item(value, self._until_s(ttl_s), 0))

    async def delete_many(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if not self.away:
                self._kept.pop(key, None)

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        for key, amount in amounts.items():
            before = self._get(key) or _Item(b"0", self._until_s(ttl_s), 0)
            self._put(key, replace(before, value=b"%d" % (int(before.value) + amount)))
        return {key: int(value) for key, value in (await self.get_many(list(amounts))).items()}

    async def look_many(
        self, keys: Sequence[bytes], *, lease_s: int, early_s: int
    ) -> dict[bytes, Look]:
        if self.away:
            return {}
        return {key: self._look(key, lease_s, early_s) for key in dict.fromkeys(keys)}

    async def fill_many(self, fills: Mapping[bytes, Fill], *, ttl_s: int) -> None:
        if any(not fill.value for fill in fills.values()):
            raise Bug("an empty value cannot be told from none")
        for key, fill in fills.items():
            item = self._get(key)
            if item is None or fill.lease.life != self._life or fill.lease.cas > item.cas:
                continue
            if fill.lease.cas < item.cas:
                self._put(key, replace(item, value=fill.value, stale=True))
            else:
                self._put(key, _Item(fill.value, self._until_s(ttl_s), 0))

    async def invalidate_many(self, keys: Sequence[bytes], *, stale_s: int) -> None:
        for key in keys:
            if (item := self._get(key)) is not None:
                until_s = self._until_s(stale_s)
                self._put(key, replace(item, until_s=until_s, stale=True, leased=False))

    async def close(self) -> None:
        """Nothing to close."""

    def _look(self, key: bytes, lease_s: int, early_s: int) -> Look:
        if (item := self._get(key)) is None:
            item = self._put(key, _Item(b"", self._until_s(lease_s), 0))
        early = item.until_s - self._clock.monotonic_s() < early_s
        lease = None
        if not item.leased and (item.stale or early or not item.value):
            lease = Lease(item.cas, self._life)
            self._kept[key] = replace(item, leased=True)
        return Look(item.value or None, item.stale, lease)

    def _until_s(self, ttl_s: int) -> float:
        return self._clock.monotonic_s() + ttl_s

    def _get(self, key: bytes) -> _Item | None:
        item = self._kept.get(key)
        gone = item is None or self._clock.monotonic_s() >= item.until_s or self.away
        return None if gone else item

    def _put(self, key: bytes, item: _Item) -> _Item:
        """Every change has a number of its own, above all before it."""
        item = replace(item, cas=next(self._cas))
        if not self.away:
            self._kept[key] = item
        return item
