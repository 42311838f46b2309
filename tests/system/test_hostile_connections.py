"""Connections and streams that only take: others are answered, and everything is given back.

The server is a process of its own on the memory twins; the attackers speak HTTP/2 by hand.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from social.v1 import media_pb2, media_pb2_grpc, users_pb2, users_pb2_grpc
from tests.error_cases.media import chunk, header, picture
from tests.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    Raw,
    connected,
    frame,
    headers,
    message,
    settings,
)
from tests.serving_alone import Alone, serving_alone

CONNECTIONS = 10_000
AT_ONCE = 100
# Of the process for one idle connection; measured: 12 to 25.
CONNECTION_KIB_MAX = 60
PATIENCE_S = 60
# From 1,000 calls that wait for a process to accept them gRPC cancels some of all by lot.
BURST = 800
GET_USERS = "/social.v1.UsersService/GetUsers"
DOWNLOAD = "/social.v1.MediaService/DownloadMedia"
OPENED = (PREFACE, settings(), frame(SETTINGS, ACK, 0))


@pytest.fixture(autouse=True, scope="module")
def _many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Caller:
    """Somebody with a channel of his own."""

    def __init__(self, server: Alone, channel: grpc.aio.Channel, handle: str) -> None:
        self._users: Any = users_pb2_grpc.UsersServiceStub(channel)
        self._media: Any = media_pb2_grpc.MediaServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {server.tokens[handle]}"),)

    async def answered(self, calls: int) -> None:
        """Every one of them."""
        for _ in range(calls):
            assert await self.ask() == "OK"

    async def ask(self) -> str:
        request = users_pb2.GetUsersRequest(user_ids=[1])
        call = self._users.GetUsers(request, metadata=self._metadata, timeout=30)
        return str((await call.code()).name)

    def upload(self) -> Any:
        return self._media.UploadMedia(metadata=self._metadata)

    async def published(self) -> str:
        """How an upload ends that goes as it should."""
        call = self.upload()
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.write(header(PICTURE))
            await call.write(chunk(PICTURE))
            await call.done_writing()
        return str((await call.code()).name)


PICTURE = picture()


@asynccontextmanager
async def calling(server: Alone, handle: str = "ben") -> AsyncIterator[Caller]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        yield Caller(server, channel, handle)


async def opened(server: Alone, count: int, *first: bytes, source: str = "127.0.0.1") -> list[Raw]:
    raws: list[Raw] = []
    while len(raws) < count:
        more = min(AT_ONCE, count - len(raws))
        raws += await asyncio.gather(
            *(connected(server.address, *first, source=source) for _ in range(more))
        )
    return raws


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.02)


async def until_all(ended: Sequence[Awaitable[Any]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*ended)


@pytest.mark.timeout(170)
async def test_ten_thousand_open_connections_and_others_are_answered() -> None:
    spare = 200
    async with (
        serving_alone(grpc_connections_max=CONNECTIONS + spare) as server,
        calling(server) as early,
    ):
        await early.answered(20)
        descriptors, memory_mib = server.descriptors, server.memory_mib
        raws = await opened(server, CONNECTIONS, *OPENED)
        await until(lambda: server.descriptors >= descriptors + CONNECTIONS)
        async with calling(server) as late:
            await early.answered(50)
            await late.answered(50)
        held_mib = server.memory_mib - memory_mib
        # One more than there may be is closed, and takes nothing from those that are there.
        above = await opened(server, 2 * spare, *OPENED)
        gone = [asyncio.ensure_future(raw.closed()) for raw in above]
        await until(lambda: sum(one.done() for one in gone) >= spare)
        await early.answered(50)
        for raw in raws + above:
            raw.close()
        await until_all(gone)
        await until(lambda: server.descriptors <= descriptors + 2)
        await early.answered(20)
    print(f"{CONNECTIONS} connections held open in {held_mib:.0f} MiB, {2 * spare} more tried")
    assert held_mib * 1024 < CONNECTIONS * CONNECTION_KIB_MAX


NEVER_BEGUN = {
    "silent": (),
    "half a preface": (PREFACE[:10],),
    "a preface alone": (PREFACE,),
    "headers without end": (PREFACE, settings(), frame(HEADERS, 0, 1, headers(GET_USERS))),
    "half a frame": (PREFACE, settings(), frame(HEADERS, END_HEADERS, 1, headers(GET_USERS))[:20]),
    "another protocol": (b"GET / HTTP/1.1\r\nHost: millrace\r\n\r\n",),
}


async def test_connections_that_never_begin_are_closed() -> None:
    each = 100
    async with (
        serving_alone(grpc_handshake_s=1.0) as server,
        calling(server) as other,
    ):
        await other.answered(5)
        descriptors = server.descriptors
        for first in NEVER_BEGUN.values():
            raws = await opened(server, each, *first)
            await other.answered(10)
            await until_all([raw.closed() for raw in raws])
            for raw in raws:
                raw.close()
        await until(lambda: server.descriptors <= descriptors + 2)
        await other.answered(5)
    print(f"{each * len(NEVER_BEGUN)} connections of {len(NEVER_BEGUN)} kinds, all closed by us")


async def test_calls_whose_request_never_comes_end_and_keep_no_place_from_others() -> None:
    """Their connections stay open and well-behaved otherwise. As many acceptors as there are by
    default: of more than 1,000 calls that wait in one, gRPC itself ends some at random, anybody's.
    """
    connections, calls = 20, 100
    half = [frame(HEADERS, END_HEADERS, 2 * n + 1, headers(GET_USERS)) for n in range(calls)]
    async with (
        serving_alone(request_wait_s=1.0, grpc_calls_max=500, grpc_acceptors=8) as server,
        calling(server) as other,
    ):
        await other.answered(5)
        raws = await opened(server, connections, PREFACE, settings(), *half)
        await other.answered(50)
        await until_all([raw.streams_ended(calls) for raw in raws])
        for raw in raws:
            raw.close()
        await other.answered(5)
    print(f"{connections * calls} calls without their request, all ended by us")


async def stopped(caller: Caller) -> Any:
    """An upload that stops in the middle."""
    call = caller.upload()
    await call.write(header(PICTURE))
    await call.write(chunk(PICTURE[:100]))
    return call


async def dripped(caller: Caller) -> grpc.StatusCode:
    """How an upload ends that sends a byte now and then."""
    call = caller.upload()
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        await call.write(header(PICTURE))
        for byte in PICTURE:
            await call.write(chunk(bytes((byte,))))
            await asyncio.sleep(0.2)
    code: grpc.StatusCode = await call.code()
    return code


async def test_uploads_that_stop_or_drip_keep_no_place_from_others() -> None:
    places = 20
    limits = {"streams_a_user_max": places, "streams_max": 2 * places}
    async with (
        serving_alone(stream_idle_max_s=1.0, upload_deadline_s=5, **limits) as server,
        calling(server, "ana") as attacker,
        calling(server) as other,
    ):
        stopping = [await stopped(attacker) for _ in range(places)]
        # Nothing is written into those: grpc.aio's client takes it for INTERNAL.
        refused = [attacker.upload() for _ in range(200)]
        codes = [await one.code() for one in refused]
        assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * len(refused)
        assert await other.published() == "OK"
        codes = [await one.code() for one in stopping]
        assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * places
        # A byte now and then is no pause, and ends with the upload's own deadline.
        dripping = asyncio.gather(*(dripped(attacker) for _ in range(places)))
        while not dripping.done():
            await other.answered(1)
        assert await other.published() == "OK"
        assert await dripping == [grpc.StatusCode.DEADLINE_EXCEEDED] * places
        assert await attacker.published() == "OK", "and the places are there again"
    print(f"{places} uploads that stop, {places} that drip, {len(refused)} above the bound")


async def test_downloads_that_nobody_reads_end() -> None:
    places = 30
    asked = media_pb2.DownloadMediaRequest
    async with (
        serving_alone(stream_idle_max_s=1.0, streams_a_user_max=places) as server,
        calling(server, "ana") as attacker,
        calling(server) as other,
    ):
        head = headers(DOWNLOAD, server.tokens["ana"])
        body = message(asked(media_id=server.media_id).SerializeToString())
        raw = await connected(server.address, PREFACE, settings(window=0), frame(SETTINGS, ACK, 0))
        # More than there are places, since an upload may have one when they come.
        for number in range(1, 4 * places, 2):
            raw.send(frame(HEADERS, END_HEADERS, number, head))
            raw.send(frame(DATA, END_STREAM, number, body))
        async with asyncio.timeout(PATIENCE_S):
            while await attacker.published() == "OK":
                """Until all of the downloads have their places."""
        await other.answered(20)
        assert await other.published() == "OK"
        async with asyncio.timeout(PATIENCE_S):
            while await attacker.published() != "OK":
                """Until they have lost them, while the client still does not read."""
        raw.close()
    print(f"{places} downloads that nobody reads")


async def test_floods_of_a_user_and_of_an_address_take_nothing_from_others() -> None:
    of_user, of_address, bursts = 500, BURST + 300, 2
    most = {"user_calls": of_user, "address_calls": of_address}
    async with (
        serving_alone(rate_loopback=True, rate_window_s=10**9, most=most) as server,
        calling(server, "ana") as attacker,
        calling(server) as other,
    ):
        attack = asyncio.gather(*(attacker.ask() for _ in range(BURST)))
        await other.answered(50)
        refused = (await attack).count("RESOURCE_EXHAUSTED")
        # One that counts was ana's upload before.
        assert refused == BURST - of_user + 1
        raw = await connected(server.address, *OPENED, source="127.0.0.2")
        limited = 0
        for burst in range(bursts):
            for number in range(burst * BURST, (burst + 1) * BURST):
                raw.send(frame(HEADERS, END_HEADERS, 2 * number + 1, headers(GET_USERS)))
                raw.send(frame(DATA, END_STREAM, 2 * number + 1, message(b"")))
            await other.answered(25)
            limited += (await raw.streams_ended(BURST)).count(b"too many calls")
        assert limited == bursts * BURST - of_address
    print(f"{BURST} calls of one user at once, {refused} refused; 50 of 50 of another answered")
    print(f"{bursts * BURST} calls of one address, {limited} refused; 50 of 50 of another answered")
