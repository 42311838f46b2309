"""The cache's servers as one cache: each key has one owner among them, by consistent hashing.

Every process finds the same owner, whatever the order in which the addresses are named and
whatever its version of Python; golden-tested. A server is never stood in for by another: while it
is away its keys are not cached, so nothing is left anywhere that nobody invalidates.

Not: whether a server knows of the latest changes (`millrace.relations.cache_position`)
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

import xxhash
from uhashring import HashRing

from millrace.clock import Clock
from millrace.errors import InvalidRequest
from millrace.settings import Settings
from millrace.stores.cache_port import Cache, Fill, Look
from millrace.stores.memcached import Memcached

K = TypeVar("K", bound=Mapping[bytes, object] | Sequence[bytes])
V = TypeVar("V")


class Ring:
    """Which of some servers owns a key."""

    def __init__(self, addresses: Collection[str]) -> None:
        # Sorted, since of two points of the ring that meet the later one counts.
        self.addresses = tuple(sorted(addresses))
        self._ring = HashRing(list(self.addresses), hash_fn=_hash)

    def owner(self, key: bytes) -> str:
        if len(self.addresses) == 1:
            return self.addresses[0]
        owner: str = self._ring.get_node(key)
        return owner


class CacheRing:
    """Implements `Cache` over several. `former`: the addresses that were the ring before; what is
    invalidated or deleted is so at the owners of both.
    """

    def __init__(
        self, servers: Mapping[str, Cache], ring: Ring, former: Ring | None = None
    ) -> None:
        """`servers`: by address, all of both rings."""
        self.servers = servers
        self.ring = ring
        self._rings = (ring, former) if former is not None else (ring,)

    def by_owner(self, keys: Iterable[bytes]) -> dict[str, list[bytes]]:
        """Keys by the address of the server that is asked for them."""
        return _grouped(self.ring, keys)

    def by_every_owner(self, keys: Collection[bytes]) -> dict[str, list[bytes]]:
        """Keys by the addresses of all servers where somebody may still read them."""
        owned: dict[str, dict[bytes, None]] = defaultdict(dict)
        for ring in self._rings:
            for address, some in _grouped(ring, keys).items():
                owned[address].update(dict.fromkeys(some))
        return {address: list(some) for address, some in owned.items()}

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return await self._each(self.by_owner(keys), lambda server, some: server.get_many(some))

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        await self._all(
            self.by_owner(values),
            lambda server, some: server.set_many({key: values[key] for key in some}, ttl_s=ttl_s),
        )

    async def delete_many(self, keys: Sequence[bytes]) -> None:
        await self._all(self.by_every_owner(keys), lambda server, some: server.delete_many(some))

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        return await self._each(
            self.by_owner(amounts),
            lambda server, some: server.add_many({key: amounts[key] for key in some}, ttl_s=ttl_s),
        )

    async def look_many(
        self, keys: Sequence[bytes], *, lease_s: int, early_s: int
    ) -> dict[bytes, Look]:
        return await self._each(
            self.by_owner(keys),
            lambda server, some: server.look_many(some, lease_s=lease_s, early_s=early_s),
        )

    async def fill_many(self, fills: Mapping[bytes, Fill], *, ttl_s: int) -> None:
        await self._all(
            self.by_owner(fills),
            lambda server, some: server.fill_many({key: fills[key] for key in some}, ttl_s=ttl_s),
        )

    async def invalidate_many(self, keys: Sequence[bytes], *, stale_s: int) -> None:
        await self._all(
            self.by_every_owner(keys),
            lambda server, some: server.invalidate_many(some, stale_s=stale_s),
        )

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers.values()))

    async def _all(
        self,
        owned: Mapping[str, list[bytes]],
        ask: Callable[[Cache, list[bytes]], Awaitable[V]],
    ) -> list[V]:
        asked = [ask(self.servers[address], keys) for address, keys in owned.items()]
        # One server, as most calls have: without a task of its own.
        return [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)

    async def _each(
        self,
        owned: Mapping[str, list[bytes]],
        ask: Callable[[Cache, list[bytes]], Awaitable[dict[bytes, V]]],
    ) -> dict[bytes, V]:
        found = await self._all(owned, ask)
        return dict(chain.from_iterable(some.items() for some in found))


def open_cache(settings: Settings, clock: Clock) -> CacheRing:
    """The servers that the settings name. Connects when it is first asked. Raises InvalidRequest
    for what are no addresses.
    """
    ring = Ring(addresses_of(settings.memcached_addresses))
    before = addresses_of(settings.memcached_addresses_before)
    servers = {
        address: Memcached(address, settings, clock) for address in {*ring.addresses, *before}
    }
    if not ring.addresses:
        raise InvalidRequest("memcached_addresses names no server")
    return CacheRing(servers, ring, Ring(before) if before else None)


def addresses_of(text: str) -> list[str]:
    """host:port, … as a list. Raises InvalidRequest."""
    addresses = [address.strip() for address in text.split(",") if address.strip()]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidRequest(f"no address of a cache server: {address!r} (host:port is one)")
    if len(set(addresses)) < len(addresses):
        raise InvalidRequest("a cache server is named twice")
    return addresses


def _grouped(ring: Ring, keys: Iterable[bytes]) -> dict[str, list[bytes]]:
    if len(ring.addresses) == 1:
        return {ring.addresses[0]: some} if (some := list(keys)) else {}
    owned: dict[str, list[bytes]] = defaultdict(list)
    for key in keys:
        owned[ring.owner(key)].append(key)
    return owned


def _hash(named: str | bytes) -> int:
    """Of a key, and of the names that the library makes for the points of a server."""
    return xxhash.xxh3_64_intdigest(named.encode() if isinstance(named, str) else named)
