"""A server whose store is stuck refuses what it cannot do, at once, and is itself again after."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from social.v1 import users_pb2 as pb
from tests.serving import Person, World, refusal, serving

GET_USERS = {"method": "/social.v1.UsersService/GetUsers", "code": "RESOURCE_EXHAUSTED"}
PATIENCE_S = 30.0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    # Knocks that a busy test machine hears late say nothing about this test.
    async with serving(
        admission_delay_ms=100,
        admission_calls_start=8,
        admission_calls_min=4,
        admission_heard_ms=60_000,
    ) as made:
        yield made


class Stuck:
    """Reads of the view store wait until they are let go. `waiting`: reads that do."""

    def __init__(self, world: World, patched: pytest.MonkeyPatch) -> None:
        self.free = asyncio.Event()
        self.waiting = 0
        read = world.store.get_many

        async def held(*arguments: Any, **named: Any) -> Any:
            self.waiting += 1
            await self.free.wait()
            return await read(*arguments, **named)

        patched.setattr(world.store, "get_many", held)


def get(world: World, ana: Person, timeout_s: float = PATIENCE_S) -> Any:
    request = pb.GetUsersRequest(user_ids=[ana.user_id])
    return world.users.GetUsers(request, metadata=ana.metadata, timeout=timeout_s)


def running() -> float:
    return REGISTRY.get_sample_value("millrace_rpcs_running") or 0


def limit() -> float:
    return REGISTRY.get_sample_value("millrace_admission_limit_calls") or 0


def refused_so_far() -> float:
    return REGISTRY.get_sample_value("millrace_rpcs_total", GET_USERS) or 0


async def until(predicate: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not predicate():
            await asyncio.sleep(0.005)


async def fill(world: World, ana: Person) -> list[Any]:
    """So many calls that one more is refused."""
    calls: list[Any] = []
    refused = refused_so_far()
    while refused_so_far() == refused and len(calls) < 100:
        before = running()
        call = asyncio.ensure_future(get(world, ana))
        await until(lambda before=before, call=call: running() > before or call.done())
        if call.done():
            assert isinstance(call.exception(), grpc.aio.AioRpcError)
            break
        calls.append(call)
    return calls


async def test_a_stuck_store_is_overload_and_health_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    await get(world, ana)
    with monkeypatch.context() as patched:
        stuck = Stuck(world, patched)
        calls = await fill(world, ana)
        assert 4 <= len(calls) <= 8
        counted = refused_so_far()
        found = await refusal(get(world, ana))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry_after_s
        assert len(found.trace) == 32
        assert refused_so_far() == counted + 1
        assert stuck.waiting <= len(calls) + 1
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stuck.free.set()
        for call in calls:
            assert (await call).users
    assert (await get(world, ana)).users


async def test_the_trace_of_a_refusal_is_the_callers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    trace = "0af7651916cd43dd8448eb211c80319c"
    monkeypatch.setattr(world.server.frame.admission, "limit", 0.0)
    request = pb.GetUsersRequest(user_ids=[ana.user_id])
    traced = (*ana.metadata, ("traceparent", f"00-{trace}-b7ad6b7169203331-00"))
    found = await refusal(world.users.GetUsers(request, metadata=traced))
    assert (found.reason, found.trace) == ("OVERLOADED", trace)


async def test_a_refusal_reads_neither_request_nor_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.server.frame.admission, "limit", 0.0)
    channel: Any = world.channel
    garbled = channel.unary_unary("/social.v1.UsersService/GetUsers")(b"\xff")
    assert (await refusal(garbled)).reason == "OVERLOADED"


async def test_a_call_whose_time_is_over_is_not_begun(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    begun: list[object] = []

    async def read(*arguments: object) -> object:
        begun.append(arguments)
        raise AssertionError

    monkeypatch.setattr("services.frame._left_s", lambda *_: 0.0)
    monkeypatch.setattr(world.store, "get_many", read)
    found = await refusal(get(world, ana))
    assert found.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert not begun


async def test_every_acceptor_answers(world: World) -> None:
    """Connections spread over them as the kernel likes: many find all of them."""
    ana = await world.register("ana")
    options = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(40):
        async with grpc.aio.insecure_channel(world.address, options=options) as channel:
            call: Any = channel.unary_unary(
                "/social.v1.UsersService/GetUsers",
                request_serializer=pb.GetUsersRequest.SerializeToString,
                response_deserializer=pb.GetUsersResponse.FromString,
            )
            request = pb.GetUsersRequest(user_ids=[ana.user_id])
            assert (await call(request, metadata=ana.metadata)).users
