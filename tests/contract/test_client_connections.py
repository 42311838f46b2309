"""A client's connections that are closed, hang, or belong to another event loop than the caller's;
and what errors carry.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from millrace.client import Client, Session, calls
from millrace.errors import InvalidRequest, OutcomeUnknown, StoreUnavailable
from tests.contract.test_media import picture
from tests.cutting import cutting
from tests.serving import World, serving

PASSWORD = "correct horse"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


async def record(client: Client, ana: Session, media_id: int) -> None:
    async with client.record_likes(ana) as recording:
        await recording.like(media_id)


async def download(client: Client, ana: Session, media_id: int) -> None:
    await client.download(ana, media_id)


async def upload(client: Client, ana: Session, media_id: int) -> None:
    await client.upload(ana, picture("red"))


Use = Callable[[Client, Session, int], Awaitable[object]]
USES: dict[str, tuple[Use, type[StoreUnavailable]]] = {
    "write": (lambda client, ana, media_id: client.like(ana, media_id), OutcomeUnknown),
    "stream of writes": (record, OutcomeUnknown),
    "upload": (upload, OutcomeUnknown),
    "read": (lambda client, ana, media_id: client.feed(ana).page(), StoreUnavailable),
    "download": (download, StoreUnavailable),
}


@pytest.mark.parametrize("use", USES)
async def test_what_is_under_way_at_the_close_fails_and_is_not_cancelled(
    world: World, use: str
) -> None:
    call, error = USES[use]
    async with Client(world.address) as client:
        ana = await client.register("ana", PASSWORD)
        item = await client.upload(ana, picture("teal"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client("{}:{}".format(*silent.getsockname()))
        under_way = asyncio.create_task(asyncio.wait_for(call(client, ana, item.id), 5.0))
        while not any(one.outstanding for one in client.connections._connections):
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(StoreUnavailable) as told:
            await under_way
        assert type(told.value) is error
        with pytest.raises(RuntimeError, match="closed"):
            await call(client, ana, item.id)


async def test_a_call_that_its_caller_cancels_is_cancelled(world: World) -> None:
    async with Client(world.address) as client:
        ana = await client.register("ana", PASSWORD)
        under_way = asyncio.create_task(client.feed(ana).page())
        await asyncio.sleep(0)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way


async def test_a_client_belongs_to_the_loop_that_it_was_made_in(world: World) -> None:
    def elsewhere(client: Client) -> None:
        asyncio.run(client.log_in("ana", PASSWORD))

    async with Client(world.address) as client:
        with pytest.raises(RuntimeError, match="event loop"):
            await asyncio.to_thread(elsewhere, client)
    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(Client, world.address)


async def test_a_connection_on_which_nothing_is_answered_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ATTEMPT_S", 0.5)
    async with cutting(world.address) as proxy, Client(proxy.address, connections=2) as client:
        ana = await client.register("ana", PASSWORD)
        item = await client.upload(ana, picture("teal"))
        await client.feed(ana).page()
        proxy.hang()
        await asyncio.gather(*(client.like(ana, item.id) for _ in range(4)))
        retries = client.retries
        page = await client.feed(ana).page()
        assert [shown.likes_count for shown in page.items] == [1]
        assert client.retries == retries


async def test_an_error_carries_the_broken_fields_and_the_trace(world: World) -> None:
    async with Client(world.address) as client:
        with pytest.raises(InvalidRequest) as broken:
            await client.register("no handle", "short")
    assert sorted(one.field for one in broken.value.violations) == ["handle", "password"]
    assert all(one.rule and one.description for one in broken.value.violations)
    assert len(broken.value.trace) == 32
