"""Who calls too often is refused, in one process and over all of them; and nobody else is."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from prometheus_client import generate_latest

from deploy.local.status import StackStatus
from millrace.clock import Clock, ManualClock, SystemClock
from millrace.errors import Exhausted, StoreUnavailable, Unauthenticated
from millrace.settings import Settings
from millrace.stores.cache_port import Cache
from millrace.stores.memcached import Memcached
from millrace.stores.memcached_memory import MemoryCache
from services.rates import Rate, Rates
from social.v1 import users_pb2, users_pb2_grpc
from tests.account_calls import OTHER, change_password
from tests.error_cases.media import picture, upload
from tests.serving import PASSWORD, Person, Refusal, World, refusal, serving

LIMIT = 40
WINDOW_S = 10
START_MS = 1_750_000_000_000
ANA_AT = "203.0.113.7"
BEN_AT = "198.51.100.0"
WRONG = Unauthenticated("handle or password is wrong")


def rates(clock: Clock, cache: Cache, secret: bytes = b"s", **changed: Any) -> Rates:
    given = {"rate_user_calls_per_s_max": LIMIT // WINDOW_S, **changed}
    return Rates(Settings(rate_window_s=WINDOW_S, **given), clock, cache, secret)


def taken(rate: Rate, key: int | str, most: int) -> int:
    """How many of `most` it lets through."""
    for count in range(most):
        try:
            rate.take(key)
        except Exhausted:
            return count
    return most


def test_above_its_limit_a_key_is_refused_until_the_window_ends() -> None:
    clock = ManualClock(START_MS + 4_000)
    rate = rates(clock, MemoryCache(clock)).user_calls
    assert taken(rate, 1, 100) == LIMIT
    assert taken(rate, 2, LIMIT) == LIMIT, "another key is another count"
    with pytest.raises(Exhausted) as refused:
        rate.take(1)
    assert (refused.value.reason, refused.value.retry_after_s) == ("RATE_LIMITED", 6.0)
    clock.advance(5_999)
    assert taken(rate, 1, 1) == 0
    clock.advance(1)
    assert taken(rate, 1, 100) == LIMIT


def test_a_limit_of_0_is_none() -> None:
    clock = ManualClock()
    rate = rates(clock, MemoryCache(clock), rate_user_calls_per_s_max=0).user_calls
    assert taken(rate, 1, 100_000) == 100_000
    assert len(rate) == 0


def test_a_process_keeps_a_bounded_number_of_counts() -> None:
    clock = ManualClock()
    rate = rates(clock, MemoryCache(clock), rate_keys_max=100).user_calls
    for user_id in range(10_000):
        rate.take(user_id, LIMIT // 2)
    assert len(rate) == 100
    assert len(rate.to_tell(10_000)) == 100
    clock.advance(WINDOW_S * 1000)
    rate.take(1)
    assert len(rate) == 1, "of a window that is over nothing is kept"


@pytest.fixture(params=["memory", "memcached"])
def shared(request: pytest.FixtureRequest) -> Iterator[Cache]:
    if request.param == "memory":
        yield MemoryCache(ManualClock())
        return
    stack: StackStatus = request.getfixturevalue("stack")
    address = str(stack.settings["memcached_addresses"])
    yield Memcached(address, Settings(memcached_timeout_ms=5_000), SystemClock())


async def test_processes_count_together(shared: Cache, namespace: str) -> None:
    clock, secret = ManualClock(START_MS), namespace.encode()
    one, two, other = (rates(clock, shared, secret) for _ in range(3))
    stranger = rates(clock, shared, b"not " + secret)
    assert taken(one.user_calls, 7, 30) == 30
    await one.tell()
    # One that has not counted the key knows nothing of it; from its first telling on it does.
    assert taken(two.user_calls, 7, 2) == 2
    await two.tell()
    assert taken(two.user_calls, 7, 100) == LIMIT - 30 - 2
    await two.tell()
    assert taken(one.user_calls, 7, 5) == 5, "until it tells and learns"
    await one.tell()
    assert taken(one.user_calls, 7, 1) == 0
    assert taken(other.user_calls, 8, LIMIT) == LIMIT
    assert taken(stranger.user_calls, 7, 10) == 10
    await stranger.tell()
    assert taken(stranger.user_calls, 7, 100) == LIMIT - 10
    clock.advance(WINDOW_S * 1000)
    assert taken(one.user_calls, 7, 100) == LIMIT
    await shared.close()


async def test_without_memcached_each_process_counts_alone() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock)
    cache.away = True
    one, two = rates(clock, cache), rates(clock, cache)
    for _ in range(4):
        assert taken(one.user_calls, 7, 5) == 5
        await one.tell()
    assert taken(one.user_calls, 7, 100) == LIMIT - 20
    assert taken(two.user_calls, 7, 100) == LIMIT
    cache.away = False
    assert taken(one.user_calls, 7, 1) == 0, "what it counted itself it does not forget"


async def test_few_calls_are_not_worth_telling() -> None:
    clock = ManualClock()
    mine = rates(clock, MemoryCache(clock), rate_user_calls_per_s_max=100)
    assert taken(mine.user_calls, 7, 49) == 49
    assert not mine.user_calls.to_tell(10)
    mine.user_calls.take(7)
    assert [told.amount for told in mine.user_calls.to_tell(10).values()] == [50]


async def test_at_most_so_many_are_told_at_once_and_the_others_next() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock)
    mine = rates(clock, cache, rate_sync_keys_max=10)
    for user_id in range(25):
        mine.user_calls.take(user_id, LIMIT)
    for told in (10, 20, 25):
        await mine.tell()
        assert len(cache._kept) == told


async def test_telling_goes_on_by_itself_and_ends() -> None:
    cache = MemoryCache(SystemClock())
    settings = Settings(rate_window_s=10**9, rate_sync_ms=1)
    telling = Rates(settings, SystemClock(), cache, b"s")
    telling.start()
    telling.user_calls.take(7, 10**12)
    async with asyncio.timeout(5):
        while not cache._kept:
            await asyncio.sleep(0)
    await telling.close()


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:203.0.113.7:5011", "203.0.113.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5011", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("ipv6:[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("ipv4:127.0.0.1:5011", ""),
        ("ipv6:[::1]:5011", ""),
        ("ipv6:[::ffff:127.0.0.1]:1", ""),
        ("unix:", ""),
        ("unix:/run/millrace", ""),
        ("", ""),
        ("ipv4:nonsense", ""),
    ],
)
def test_whose_address_a_call_has(peer: str, address: str) -> None:
    clock = ManualClock()
    assert rates(clock, MemoryCache(clock)).address_of(peer) == address
    local = rates(clock, MemoryCache(clock), rate_loopback=True).address_of("ipv4:127.0.0.1:5")
    assert local == "127.0.0.1"


# --- guessing passwords -----------------------------------------------------------------------


def guesses(mine: Rates, name: bytes, address: str, most: int) -> int:
    """How many wrong ones somebody gets."""
    for count in range(most):
        try:
            with mine.guess(name, address):
                raise WRONG
        except Unauthenticated:
            continue
        except Exhausted:
            return count
    return most


def get_in(mine: Rates, name: bytes, address: str) -> None:
    with mine.guess(name, address):
        """The password is right."""


def test_a_guesser_is_stopped_at_his_address_and_the_owner_gets_in() -> None:
    clock = ManualClock(START_MS - START_MS % 900_000)
    mine = rates(clock, MemoryCache(clock))
    assert guesses(mine, b"ana", BEN_AT, 1_000) == 10
    get_in(mine, b"ana", ANA_AT)
    with pytest.raises(Exhausted):
        get_in(mine, b"ana", BEN_AT)
    # Many handles from one address, one handle from many addresses:
    tried = sum(guesses(mine, b"%d" % one, BEN_AT, 1_000) for one in range(100))
    assert tried == 200 - 10
    tried = sum(guesses(mine, b"cleo", f"192.0.2.{one}", 1_000) for one in range(100))
    assert tried == 100
    clock.advance(900_000)
    get_in(mine, b"cleo", BEN_AT)


def test_who_is_refused_at_his_address_uses_up_nothing_of_the_handle() -> None:
    clock = ManualClock()
    mine = rates(clock, MemoryCache(clock))
    for _ in range(10):
        guesses(mine, b"ana", BEN_AT, 1_000)
    get_in(mine, b"ana", ANA_AT)
    assert guesses(mine, b"ana", "", 1_000) == 100 - 10


def test_log_ins_that_succeed_or_fail_for_another_reason_are_no_failures() -> None:
    clock = ManualClock()
    mine = rates(clock, MemoryCache(clock))
    for _ in range(300):
        get_in(mine, b"ana", ANA_AT)
        with pytest.raises(StoreUnavailable), mine.guess(b"ana", ANA_AT):
            raise StoreUnavailable("away")
    assert guesses(mine, b"ana", ANA_AT, 1_000) == 10


async def test_no_address_and_no_name_is_told_to_memcached_a_metric_or_a_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = ManualClock()
    cache = MemoryCache(clock)
    mine = rates(clock, cache, rate_address_calls_per_s_max=1)
    assert taken(mine.address_calls, ANA_AT, 100) == WINDOW_S
    assert guesses(mine, b"ana", ANA_AT, 100) == 10
    await mine.tell()
    assert len(cache._kept) == 4
    told = [*cache._kept, generate_latest(), "".join(capsys.readouterr()).encode()]
    for text in told:
        assert ANA_AT.encode() not in text
        assert b"ana" not in text.split(b":")[0]
        assert not text.startswith(b"rate:ana")


# --- as clients see it ------------------------------------------------------------------------


def log_in(world: World, handle: str, password: str) -> Any:
    stub: Any = users_pb2_grpc.UsersServiceStub(world.channel)
    return stub.LogIn(users_pb2.LogInRequest(handle=handle, password=password))


def read(world: World, who: Person) -> Any:
    request = users_pb2.GetUsersRequest(user_ids=[who.user_id])
    return world.users.GetUsers(request, metadata=who.metadata)


def write(world: World, who: Person) -> Any:
    request = users_pb2.UpdateProfileRequest(request_id=str(uuid.uuid4()), display_name="A")
    return world.users.UpdateProfile(request, metadata=who.metadata)


def check_limited(refused: Refusal, window_s: int) -> None:
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "RATE_LIMITED"
    assert refused.retry_after_s
    assert refused.retry_after_s <= window_s


async def until_limited(make: Any, most: int) -> tuple[int, Refusal]:
    """How many calls were not limited, and how the next one ended."""
    for count in range(most):
        call = make()
        if await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return count, await refusal(call)
    raise AssertionError(f"{most} calls were let through")


async def test_reads_and_writes_of_a_user_are_counted_and_others_go_on() -> None:
    # A window as long as the clock has run, so that none ends within the test.
    async with serving(
        rate_window_s=10**9, rate_user_calls_per_s_max=0, rate_user_writes_per_s_max=0
    ) as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        mine = world.parts.rates
        mine.user_calls.limit, mine.user_writes.limit = 20, 5
        count, refused = await until_limited(lambda: write(world, ana), 50)
        check_limited(refused, 10**9)
        assert count == 5
        count, refused = await until_limited(lambda: read(world, ana), 50)
        check_limited(refused, 10**9)
        assert count == 20 - 6
        await read(world, ben)
        await write(world, ben)
        assert mine.user_calls.limit == 20


async def test_a_guesser_is_limited_and_so_is_registering_from_one_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.rates._HOUR_S", 10**9)
    async with serving(
        rate_loopback=True, rate_registers_per_hour_max=3, rate_log_in_window_s=10**9
    ) as world:
        await world.register("ana")
        await log_in(world, "ana", PASSWORD)
        count, refused = await until_limited(lambda: log_in(world, "ana", "wrong horse"), 50)
        check_limited(refused, 10**9)
        assert count == 10
        check_limited(await refusal(log_in(world, "ANA", PASSWORD)), 10**9)
        await world.register("ben")
        await log_in(world, "ben", PASSWORD)
        await world.register("cleo")
        with pytest.raises(grpc.aio.AioRpcError) as full:
            await world.register("dora")
        assert full.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_who_has_a_token_is_limited_in_guessing_the_password_that_goes_with_it() -> None:
    async with serving(rate_loopback=True, rate_log_in_window_s=10**9) as world:
        ana, ben = await world.register("ana"), await world.register("ben")

        def guess() -> Any:
            return change_password(world, ana.metadata, OTHER, "wrong horse")

        count, refused = await until_limited(guess, 50)
        check_limited(refused, 10**9)
        # A call tries both of its passwords.
        assert count == 10 / 2
        check_limited(await refusal(change_password(world, ana.metadata, OTHER)), 10**9)
        await change_password(world, ben.metadata, OTHER)
        await log_in(world, "ana", PASSWORD)


async def test_all_calls_of_an_address_are_counted_before_anybody_asks_who_it_is() -> None:
    async with serving(
        rate_loopback=True, rate_window_s=10**9, rate_address_calls_per_s_max=1
    ) as world:
        ana = await world.register("ana")
        world.parts.rates.address_calls.limit = 1
        check_limited(await refusal(read(world, ana)), 10**9)
        nobody = world.users.GetUsers(users_pb2.GetUsersRequest(user_ids=[1]))
        check_limited(await refusal(nobody), 10**9)


async def test_uploads_and_bytes_of_a_user_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rates._HOUR_S", 10**9)
    data = picture()
    async with serving(rate_uploads_per_hour_max=2) as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        await upload(world, ana, data)
        await upload(world, ana, data)
        check_limited(await refusal(upload(world, ana, data)), 10**9)
        await upload(world, ben, data)
    async with serving(rate_stream_bytes_per_hour_max=2 * len(data)) as world:
        ana = await world.register("ana")
        await upload(world, ana, data)
        check_limited(await refusal(upload(world, ana, data)), 10**9)
