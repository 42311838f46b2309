"""Which server owns which key, and what goes to the owners under two rings."""

import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.clock import SystemClock
from millrace.errors import InvalidRequest
from millrace.settings import Settings
from millrace.stores.cache_port import Fill
from millrace.stores.cache_ring import CacheRing, Ring, addresses_of, open_cache
from millrace.stores.memcached_memory import MemoryCache

GOLDEN = Path(__file__).parents[1] / "golden/cache_owners.json"
THREE = ["10.0.0.1:11211", "10.0.0.2:11211", "cache-3.local:11211"]
KEYS = [b"5f3a:likes.count.9c01d2:%d" % one for one in range(3_000)]


def ring_of(addresses: list[str], former: list[str] | None = None) -> CacheRing:
    clock = SystemClock()
    servers = {address: MemoryCache(clock) for address in {*addresses, *(former or ())}}
    return CacheRing(servers, Ring(addresses), Ring(former) if former else None)


def test_owners_never_change() -> None:
    """Every process must find the same one: the bytes below were written by another."""
    golden = json.loads(GOLDEN.read_text())
    ring = Ring(golden["addresses"])
    assert {key: ring.owner(key.encode()) for key in golden["owners"]} == golden["owners"]


@pytest.mark.parametrize("addresses", list(permutations(THREE)))
def test_the_order_of_addresses_does_not_count(addresses: tuple[str, ...]) -> None:
    ring, sorted_ring = Ring(list(addresses)), Ring(THREE)
    assert [ring.owner(key) for key in KEYS] == [sorted_ring.owner(key) for key in KEYS]


def test_keys_are_spread_and_only_those_of_a_lost_server_move() -> None:
    three, two = Ring(THREE), Ring(THREE[:2])
    owners = Counter(three.owner(key) for key in KEYS)
    assert 700 < min(owners.values()) <= max(owners.values()) < 1_300
    moved = [key for key in KEYS if three.owner(key) != two.owner(key)]
    assert len(moved) == owners[THREE[2]]


async def test_a_ring_of_three_does_what_one_server_does() -> None:
    ring, alone = ring_of(THREE), MemoryCache(SystemClock())
    keys = KEYS[:50]
    for cache in (ring, alone):
        looks = await cache.look_many(keys, lease_s=3, early_s=0)
        assert all(look.lease for look in looks.values())
        leases = {key: look.lease for key, look in looks.items() if look.lease}
        fills = {key: Fill(lease, b"v" + key) for key, lease in leases.items()}
        await cache.fill_many(fills, ttl_s=60)
        await cache.invalidate_many(keys[:10], stale_s=3)
        await cache.delete_many(keys[10:20])
        await cache.set_many({b"other": b"1"}, ttl_s=60)
        await cache.add_many({b"sum": 3}, ttl_s=60)
    assert await ring.get_many([b"other", b"sum"]) == await alone.get_many([b"other", b"sum"])
    found = [await cache.look_many(keys, lease_s=3, early_s=0) for cache in (ring, alone)]
    told = [
        [(look.value, look.stale, look.lease is None) for look in some.values()]
        for some in ({key: one[key] for key in keys} for one in found)
    ]
    assert told[0] == told[1]
    assert set(ring.by_owner(keys)) == set(THREE)


async def test_what_is_invalidated_is_so_under_the_ring_before_as_well() -> None:
    before, now = ring_of(THREE), ring_of(THREE[:2], THREE)
    now.servers = before.servers
    looks = await before.look_many(KEYS[:100], lease_s=3, early_s=0)
    fills = {key: Fill(look.lease, b"v") for key, look in looks.items() if look.lease}
    await before.fill_many(fills, ttl_s=60)
    await now.invalidate_many(KEYS[:50], stale_s=3)
    await now.delete_many(KEYS[50:100])
    again = await before.look_many(KEYS[:100], lease_s=3, early_s=0)
    assert all(again[key].stale for key in KEYS[:50])
    assert all(again[key].value is None for key in KEYS[50:100])
    assert set(now.by_owner(KEYS)) == set(THREE[:2])


@given(st.lists(st.sampled_from(KEYS), max_size=30, unique=True))
def test_every_key_has_one_owner_and_two_under_two_rings_at_most(keys: list[bytes]) -> None:
    ring = ring_of(THREE[:2], THREE)
    asked = ring.by_owner(keys)
    assert sorted(key for some in asked.values() for key in some) == sorted(keys)
    told = Counter(key for some in ring.by_every_owner(keys).values() for key in some)
    assert set(told) == set(keys)
    assert set(told.values()) <= {1, 2}
    for address, some in asked.items():
        assert set(some) <= set(ring.by_every_owner(keys)[address])


@pytest.mark.parametrize("wrong", ["localhost", ":11211", "a:b", "a:1,a:1"])
def test_what_are_no_addresses_is_said(wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        addresses_of(wrong)


def test_a_cache_without_servers_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        open_cache(Settings(memcached_addresses=" , "), SystemClock())
