"""Leases of the cache, real and in memory: who fills, what lands, and what a restart forgets."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from deploy.local.status import StackStatus
from millrace.clock import ManualClock, SystemClock
from millrace.errors import Bug
from millrace.stores.cache_port import Cache, Fill, Lease, Look
from millrace.stores.memcached import Memcached
from millrace.stores.memcached_memory import MemoryCache
from tests.memcached_server import free_port, opened, outcomes, own_memcached

LEASE_S, EARLY_S, TTL_S = 3, 30, 300


@pytest.fixture
def key() -> bytes:
    return b"leases:" + os.urandom(8).hex().encode()


async def look(cache: Cache, key: bytes) -> Look:
    return (await cache.look_many([key], lease_s=LEASE_S, early_s=EARLY_S))[key]


async def won(cache: Cache, key: bytes) -> Lease:
    found = await look(cache, key)
    assert found.lease is not None
    return found.lease


async def fill(cache: Cache, key: bytes, lease: Lease, value: bytes, ttl_s: int = TTL_S) -> None:
    await cache.fill_many({key: Fill(lease, value)}, ttl_s=ttl_s)


async def test_one_of_many_who_find_nothing_fills_it(cache: Cache, key: bytes) -> None:
    found = await asyncio.gather(*(look(cache, key) for _ in range(50)))
    leases = [one.lease for one in found if one.lease]
    assert len(leases) == 1
    assert {one.value for one in found} == {None}
    await fill(cache, key, leases[0], b"one")
    assert await look(cache, key) == Look(b"one", stale=False, lease=None)


async def test_many_keys_in_one_look(cache: Cache, key: bytes) -> None:
    keys = [b"%b:%d" % (key, number) for number in range(2_500)]
    found = await cache.look_many([*keys, keys[0]], lease_s=LEASE_S, early_s=EARLY_S)
    fills = {one: Fill(seen.lease, b"v" + one) for one, seen in found.items() if seen.lease}
    assert list(fills) == keys
    await cache.fill_many(fills, ttl_s=TTL_S)
    again = await cache.look_many(keys, lease_s=LEASE_S, early_s=EARLY_S)
    assert again == {one: Look(b"v" + one, stale=False, lease=None) for one in keys}
    assert await cache.look_many([], lease_s=LEASE_S, early_s=EARLY_S) == {}


async def test_what_is_invalidated_is_stale_and_for_one_to_fill(cache: Cache, key: bytes) -> None:
    await fill(cache, key, await won(cache, key), b"one")
    await cache.invalidate_many([key], stale_s=LEASE_S)
    first, second = await look(cache, key), await look(cache, key)
    assert first.lease is not None
    assert (first.value, first.stale) == (b"one", True)
    assert second == Look(b"one", stale=True, lease=None)
    await fill(cache, key, first.lease, b"two")
    assert await look(cache, key) == Look(b"two", stale=False, lease=None)


async def test_a_fill_that_was_overtaken_lands_stale(cache: Cache, key: bytes) -> None:
    """Under constant invalidation fills still land, and none of them passes for fresh."""
    lease = await won(cache, key)
    for number in range(20):
        await cache.invalidate_many([key], stale_s=LEASE_S)
        await fill(cache, key, lease, b"%d" % number)
        found = await look(cache, key)
        assert found.lease is not None
        assert (found.value, found.stale) == (b"%d" % number, True)
        lease = found.lease
    await fill(cache, key, lease, b"last")
    assert await look(cache, key) == Look(b"last", stale=False, lease=None)


async def test_what_the_older_of_two_winners_fills_last_is_stale(cache: Cache, key: bytes) -> None:
    older = await won(cache, key)
    await cache.invalidate_many([key], stale_s=LEASE_S)
    newer = await won(cache, key)
    await fill(cache, key, newer, b"new")
    await fill(cache, key, older, b"old")
    found = await look(cache, key)
    assert (found.value, found.stale, found.lease is None) == (b"old", True, False)


async def test_a_fill_of_what_was_deleted_is_not_kept(cache: Cache, key: bytes) -> None:
    lease = await won(cache, key)
    await cache.delete_many([key])
    await fill(cache, key, lease, b"old")
    found = await look(cache, key)
    assert (found.value, found.stale) == (None, False)


async def test_a_fill_in_place_of_what_came_since_is_stale(cache: Cache, key: bytes) -> None:
    lease = await won(cache, key)
    await cache.delete_many([key])
    await cache.set_many({key: b"set"}, ttl_s=TTL_S)
    await fill(cache, key, lease, b"old")
    found = await look(cache, key)
    assert (found.value, found.stale) == (b"old", True)
    assert found.lease is not None


async def test_the_winner_whose_fill_was_overtaken_lands_stale_too(
    cache: Cache, key: bytes
) -> None:
    older = await won(cache, key)
    await cache.invalidate_many([key], stale_s=LEASE_S)
    newer = await won(cache, key)
    await fill(cache, key, older, b"old")
    await fill(cache, key, newer, b"new")
    assert await look(cache, key) == Look(b"new", stale=True, lease=None)


async def test_what_has_little_time_left_is_filled_before_it_ends(cache: Cache, key: bytes) -> None:
    await fill(cache, key, await won(cache, key), b"one", ttl_s=EARLY_S - 5)
    first, second = await look(cache, key), await look(cache, key)
    assert first.lease is not None
    assert (first.value, first.stale) == (b"one", False)
    assert second == Look(b"one", stale=False, lease=None)


async def test_where_the_winner_died_the_next_is_asked(cache: Cache, key: bytes) -> None:
    await cache.look_many([key], lease_s=1, early_s=EARLY_S)
    assert (await look(cache, key)).lease is None
    async with asyncio.timeout(20):
        while (await look(cache, key)).lease is None:
            await asyncio.sleep(0.1)


async def test_a_plain_read_takes_the_lease(cache: Cache, key: bytes) -> None:
    await fill(cache, key, await won(cache, key), b"one")
    await cache.invalidate_many([key], stale_s=LEASE_S)
    assert await cache.get_many([key]) == {key: b"one"}
    assert await look(cache, key) == Look(b"one", stale=True, lease=None)


DOINGS = ["look", "look", "fill", "fill", "invalidate", "delete", "set", "get"]


@pytest.mark.parametrize("seed", range(20))
async def test_the_twin_does_what_memcached_does(stack: StackStatus, key: bytes, seed: int) -> None:
    dice, twin = random.Random(seed), MemoryCache(SystemClock())
    leases: list[tuple[Lease, Lease]] = []
    async with opened(str(stack.settings["memcached_addresses"])) as real:
        for step in range(60):
            doing = dice.choice(DOINGS)
            if doing == "fill" and leases:
                value, ttl_s = b"%d" % step, dice.choice((20, TTL_S))
                for_real, for_twin = dice.choice(leases)
                await fill(real, key, for_real, value, ttl_s)
                await fill(twin, key, for_twin, value, ttl_s)
                continue
            ours, theirs = await done(real, key, doing), await done(twin, key, doing)
            if isinstance(ours, Look) and isinstance(theirs, Look):
                if ours.lease and theirs.lease:
                    leases.append((ours.lease, theirs.lease))
                ours, theirs = without_numbers(ours), without_numbers(theirs)
            assert ours == theirs, f"step {step}: {doing}"


async def done(cache: Cache, key: bytes, doing: str) -> object:
    match doing:
        case "look":
            return (await cache.look_many([key], lease_s=60, early_s=EARLY_S))[key]
        case "get":
            return await cache.get_many([key])
        case "invalidate":
            await cache.invalidate_many([key], stale_s=60)
        case "delete":
            await cache.delete_many([key])
        case "set":
            await cache.set_many({key: b"set"}, ttl_s=TTL_S)
    return None


def without_numbers(found: Look) -> tuple[bytes | None, bool, bool]:
    return found.value, found.stale, found.lease is not None


async def test_an_empty_value_is_a_bug_of_ours(cache: Cache, key: bytes) -> None:
    with pytest.raises(Bug):
        await fill(cache, key, await won(cache, key), b"")


async def restarted_in_memory() -> tuple[Cache, Callable[[], None], ExitStack]:
    cache = MemoryCache(ManualClock())
    return cache, cache.restart, ExitStack()


async def restarted_memcached() -> tuple[Cache, Callable[[], None], ExitStack]:
    port, servers = free_port(), ExitStack()
    servers.enter_context(own_memcached(port))

    def restart() -> None:
        servers.close()
        servers.enter_context(own_memcached(port))

    async with opened(f"127.0.0.1:{port}") as cache:
        return cache, restart, servers


async def until_it_answers(cache: Cache) -> None:
    async with asyncio.timeout(20):
        while not await cache.look_many([b"up"], lease_s=LEASE_S, early_s=EARLY_S):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("begun", [restarted_in_memory, restarted_memcached])
async def test_a_lease_of_before_a_restart_fills_nothing(begun: Callable) -> None:  # type: ignore[type-arg]
    """The number that was won is a number of the new server as well."""
    cache, restart, servers = await begun()
    with servers:
        await until_it_answers(cache)
        before = await won(cache, b"k")
        restart()
        await until_it_answers(cache)
        after = await won(cache, b"k")
        assert after.cas == before.cas
        for _ in range(10):
            await fill(cache, b"k", before, b"old")
        assert (await look(cache, b"k")).value is None
        await fill(cache, b"k", after, b"new")
        assert (await look(cache, b"k")).value == b"new"
        await cache.close()


async def test_a_connection_that_came_after_the_lease_fills_nothing(
    stack: StackStatus, key: bytes
) -> None:
    """It may lead to a server that has restarted since."""
    async with opened(str(stack.settings["memcached_addresses"])) as cache:
        assert isinstance(cache, Memcached)
        lease = await won(cache, key)
        await cache.close()
        await fill(cache, key, lease, b"old")
        assert (await look(cache, key)).value is None


async def test_a_fill_of_nothing_does_not_pass_for_an_answer() -> None:
    port = free_port()
    hanging = {"memcached_timeout_ms": 50, "memcached_failures_max": 2, "memcached_pause_s": 0.0}
    with own_memcached(port) as server:
        async with opened(f"127.0.0.1:{port}", **hanging) as cache:
            await until_it_answers(cache)
            server.send_signal(signal.SIGSTOP)
            answered = outcomes("answered")
            await fill(cache, b"k", Lease(cas=1, life=0), b"v")
            assert outcomes("answered") == answered
            server.send_signal(signal.SIGCONT)


async def test_a_cache_that_is_away_leases_nothing(key: bytes) -> None:
    cache = MemoryCache(SystemClock())
    lease = await won(cache, key)
    cache.away = True
    assert await cache.look_many([key], lease_s=LEASE_S, early_s=EARLY_S) == {}
    await fill(cache, key, lease, b"v")
    await cache.invalidate_many([key], stale_s=LEASE_S)
    async with opened(f"127.0.0.1:{free_port()}") as dead:
        assert await dead.look_many([key], lease_s=LEASE_S, early_s=EARLY_S) == {}
        await fill(dead, key, lease, b"v")
        await dead.invalidate_many([key], stale_s=LEASE_S)
