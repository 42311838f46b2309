"""The cache, real and in memory; and that no call of the real one ever reads another's reply."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

import aiomcache
import psutil
import pytest

from deploy.local.status import StackStatus
from millrace.clock import ManualClock
from millrace.errors import Bug
from millrace.stores.breaker import Breaker
from millrace.stores.cache_port import TTL_S_MAX, Cache
from millrace.stores.memcached import Memcached
from tests.memcached_server import free_port, opened, outcomes, own_memcached

CANCELLATIONS = 1_000
KEYS = 40


async def test_what_was_set_is_found_until_it_is_deleted(cache: Cache, namespace: str) -> None:
    keys = [f"{namespace}:{number}".encode() for number in range(2_500)]
    values = {key: b"\r\nEN\r\n" + key for key in keys[:2_400]}
    await cache.set_many(values, ttl_s=60)
    assert await cache.get_many(keys) == values
    await cache.delete_many(keys[1:])
    assert await cache.get_many(keys) == {keys[0]: values[keys[0]]}
    assert await cache.get_many([]) == {}
    await cache.set_many({keys[0]: b""}, ttl_s=60)
    assert await cache.get_many([keys[0], keys[0]]) == {keys[0]: b""}


async def test_numbers_begin_at_0_and_add_up_for_all_who_add(cache: Cache, namespace: str) -> None:
    one, two = f"{namespace}:1".encode(), f"{namespace}:2".encode()
    assert await cache.add_many({one: 5, two: 7}, ttl_s=60) == {one: 5, two: 7}
    await asyncio.gather(*(cache.add_many({one: 2}, ttl_s=60) for _ in range(50)))
    assert await cache.add_many({one: 1}, ttl_s=60) == {one: 106}


async def test_what_is_no_key_or_lives_for_ever_is_a_bug_of_ours(stack: StackStatus) -> None:
    async with opened(str(stack.settings["memcached_addresses"])) as cache:
        for key in (b"", b"two words", b"line\r\nflush_all", b"x" * 251):
            with pytest.raises(Bug):
                await cache.get_many([key])
        for ttl_s in (0, -1, TTL_S_MAX + 1):
            with pytest.raises(Bug):
                await cache.set_many({b"k": b"v"}, ttl_s=ttl_s)


async def test_a_value_that_is_too_large_is_not_kept(stack: StackStatus, namespace: str) -> None:
    key, other = f"{namespace}:large".encode(), f"{namespace}:small".encode()
    address = str(stack.settings["memcached_addresses"])
    async with opened(address, memcached_value_bytes_max=100) as cache:
        await cache.set_many({key: b"x" * 101, other: b"x" * 100}, ttl_s=60)
        assert await cache.get_many([key, other]) == {other: b"x" * 100}


# --- no call reads another's reply ------------------------------------------------------------


async def wrong_replies(read: Callable[[bytes], Awaitable[bytes | None]], prefix: str) -> int:
    """Reads while others are cancelled: how many came back with anything but their own value."""
    dice = random.Random(4)
    keys = [value_key(prefix, number) for number in range(KEYS)]
    answered = wrong = cancelled = 0

    async def reading() -> None:
        nonlocal answered, wrong, cancelled
        while cancelled < CANCELLATIONS:
            key = dice.choice(keys)
            task = asyncio.ensure_future(read(key))
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
            if dice.random() < 0.5 and task.cancel():
                cancelled += 1
            (got,) = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(got, asyncio.CancelledError):
                answered += 1
                wrong += got != (None if key == keys[0] else b"value of " + key)

    await asyncio.gather(*(reading() for _ in range(8)))
    print(f"{cancelled} calls cancelled, {answered} answered, {wrong} of them wrongly")
    assert answered > CANCELLATIONS / 2
    return wrong


def value_key(prefix: str, number: int) -> bytes:
    return f"{prefix}:{number}".encode()


async def filled(cache: Memcached, prefix: str) -> None:
    """Key 0 is the one that is not there."""
    keys = [value_key(prefix, number) for number in range(1, KEYS)]
    await cache.set_many({key: b"value of " + key for key in keys}, ttl_s=600)


async def test_a_cancelled_call_leaves_no_reply_to_the_next(
    stack: StackStatus, namespace: str
) -> None:
    async with opened(str(stack.settings["memcached_addresses"])) as cache:
        await filled(cache, namespace)

        async def read(key: bytes) -> bytes | None:
            return (await cache.get_many([key])).get(key)

        assert await wrong_replies(read, namespace) == 0


async def test_aiomcache_itself_still_gives_replies_to_the_wrong_caller(
    stack: StackStatus, namespace: str
) -> None:
    """Why we have connections of our own. When this fails, aiomcache has been mended."""
    host, _, port = str(stack.settings["memcached_addresses"]).rpartition(":")
    async with opened(f"{host}:{port}") as cache:
        await filled(cache, namespace)
    plain = aiomcache.Client(host, int(port), pool_size=4)
    try:
        assert await wrong_replies(plain.get, namespace) > 100
    finally:
        await plain.close()


# --- a server that fails ----------------------------------------------------------------------


async def until_it_keeps(cache: Cache, key: bytes) -> None:
    async with asyncio.timeout(20):
        while await cache.get_many([key]) != {key: b"v"}:
            await cache.set_many({key: b"v"}, ttl_s=60)


async def test_a_server_that_hangs_or_dies_is_an_empty_cache_until_it_is_back() -> None:
    port = free_port()
    limits = {"memcached_timeout_ms": 100, "memcached_connections_max": 2}
    async with opened(f"127.0.0.1:{port}", **limits) as cache:
        assert await cache.get_many([b"k"]) == {}
        with own_memcached(port) as server:
            await until_it_keeps(cache, b"k")
            server.send_signal(signal.SIGSTOP)
            late = outcomes("late")
            # More callers than connections: nobody waits for ever for one that was closed.
            assert await asyncio.gather(*(cache.get_many([b"k"]) for _ in range(10))) == [{}] * 10
            assert outcomes("late") - late >= 5
            server.send_signal(signal.SIGCONT)
            await until_it_keeps(cache, b"k")
        assert await cache.get_many([b"k"]) == {}
        assert await cache.add_many({b"n": 1}, ttl_s=60) == {}
        with own_memcached(port):
            await until_it_keeps(cache, b"k")
            assert open_connections(port) <= 2


def open_connections(port: int) -> int:
    found = psutil.Process().net_connections("tcp")
    return len([one for one in found if one.status == "ESTABLISHED" and port in one.raddr[1:]])


ANSWERS = {
    "garbage": b"\x00\xff\x17" * 40 + b"\r\n",
    "a line without end": b"V" * 100_000,
    "half a line": b"VA 1",
    "half a value": b"VA 5 kk\r\nab",
    "nothing, and hangs up": None,
    "an error": b"SERVER_ERROR out of memory\r\n",
    "another's value": b"VA 1 kother\r\nx\r\nMN\r\n",
    "a value that is longer than told": b"VA 1 kk\r\nxyz\r\nMN\r\n",
    "a value of a terabyte": b"VA 1099511627776 kk\r\n",
    "a size that is none": b"VA -1 kk\r\nMN\r\n",
    "a number that is none": b"VA 1 kk\r\nx\r\nMN\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_server_that_talks_nonsense_is_an_empty_cache(name: str) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"mn\r\n")
        if (said := ANSWERS[name]) is not None:
            writer.write(said)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = {"memcached_timeout_ms": 100, "memcached_connections_max": 1}
    async with opened(f"127.0.0.1:{port}", **limits) as cache:
        for _ in range(3):
            assert await cache.add_many({b"k": 1}, ttl_s=60) == {}
    assert connections >= 3, "each that was garbled is closed"
    server.close()


async def test_a_server_that_fails_is_passed_over_then_tried_once_a_pause() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, failures_max=3, pause_s=1.0)
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    assert not breaker.admits()
    clock.advance(1_000)
    assert breaker.admits()
    assert not breaker.admits(), "one probe"
    breaker.failed()
    clock.advance(999)
    assert not breaker.admits()
    clock.advance(1)
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


async def test_while_it_is_passed_over_nobody_waits() -> None:
    async with opened(f"127.0.0.1:{free_port()}", memcached_pause_s=1_000.0) as cache:
        for _ in range(10):
            assert await cache.get_many([b"k"]) == {}
        refused = outcomes("disconnected")
        assert await cache.get_many([b"k"]) == {}
        assert outcomes("disconnected") == refused
