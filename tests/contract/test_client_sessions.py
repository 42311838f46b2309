"""What the client does for a session: concurrent writes, one edge in order, tokens, refusals."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from millrace.auth.access_token import AccessTokens
from millrace.auth.refresh_token import parse
from millrace.client import Attempt, Client, Session
from millrace.clock import ManualClock
from millrace.errors import (
    Exhausted,
    MillraceError,
    OutcomeUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from services.call import Call
from services.errors import status_of
from services.rpc import Service
from social.v1 import likes_pb2 as pb
from tests.serving import PASSWORD, World, serving

LIKES = pb.DESCRIPTOR.services_by_name["LikesService"]


class Gated:
    """A LikesService whose likes of item 1 wait, and of item 2 are refused as often as told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.free = asyncio.Event()
        self.refusals: list[MillraceError] = []

    async def like_media(self, _: Call, request: pb.LikeMediaRequest) -> pb.LikeMediaResponse:
        self.seen.append(("like", request.media_id))
        if request.media_id == 1:
            await self.free.wait()
        if request.media_id == 2 and self.refusals:
            raise self.refusals.pop(0)
        return pb.LikeMediaResponse()

    async def unlike_media(self, _: Call, request: pb.UnlikeMediaRequest) -> pb.UnlikeMediaResponse:
        self.seen.append(("unlike", request.media_id))
        return pb.UnlikeMediaResponse()


@pytest.fixture
async def gated() -> AsyncIterator[tuple[Gated, Client]]:
    likes = Gated()
    async with (
        serving([Service(LIKES, likes)]) as world,
        Client(world.address, connections=1, deadline_s=3.0) as client,
    ):
        yield likes, client


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with Client(world.address, connections=2, deadline_s=5.0) as made:
        yield made


def test_a_write_takes_the_place_of_the_positions_that_went_with_it() -> None:
    session = Session(positions=("a", "b"))
    sent = session.positions
    session.wrote((), "c")
    session.wrote(sent, "d")
    assert session.positions == ("c", "d")
    session.wrote(session.positions, "e")
    assert list(session.positions) == ["e"]


async def test_writes_on_one_edge_go_one_after_another(gated: tuple[Gated, Client]) -> None:
    likes, client = gated
    ana = await client.register("ana", PASSWORD)
    first = asyncio.create_task(client.like(ana, 1))
    while not likes.seen:
        await asyncio.sleep(0)
    then = [asyncio.create_task(client.unlike(ana, 1)), asyncio.create_task(client.like(ana, 1))]
    await client.like(ana, 3)
    assert likes.seen == [("like", 1), ("like", 3)]
    likes.free.set()
    await asyncio.gather(first, *then)
    assert likes.seen[2:] == [("unlike", 1), ("like", 1)]


async def test_a_write_whose_turn_does_not_come_is_not_sent(gated: tuple[Gated, Client]) -> None:
    likes, client = gated
    ana = await client.register("ana", PASSWORD)
    first = asyncio.create_task(client.like(ana, 1))
    while not likes.seen:
        await asyncio.sleep(0)
    client.deadline_s = 0.05
    with pytest.raises(StoreUnavailable) as refused:
        await client.unlike(ana, 1)
    assert refused.value.reason == "NOT_SENT"
    assert likes.seen == [("like", 1)]
    likes.free.set()
    await first


async def test_the_server_says_how_long_to_wait(gated: tuple[Gated, Client]) -> None:
    likes, client = gated
    ana = await client.register("ana", PASSWORD)
    likes.refusals = [Exhausted("too many", retry_after_s=0.01)] * 2
    await client.like(ana, 2)
    assert client.retries == 2
    likes.refusals = [Exhausted("too many", retry_after_s=60.0)]
    with pytest.raises(Exhausted):
        await client.like(ana, 2)
    likes.refusals = [StoreUnavailable("away"), Exhausted("too many", retry_after_s=60.0)]
    with pytest.raises(OutcomeUnknown):
        await client.like(ana, 2)


async def test_an_expired_access_token_is_exchanged_once(world: World, client: Client) -> None:
    ana = await client.register("ana", PASSWORD)
    parts = world.parts
    past = ManualClock(parts.clock.now_ms() - 1000 * parts.settings.access_token_ttl_s - 1000)
    family = parse(ana.refresh_token).family
    ana.access_token, _ = AccessTokens(parts.settings, past, parts.keys).issue(ana.user_id, family)
    before = sum(await world.log.ends("vault"))
    await asyncio.gather(*(client.get_users(ana, [ana.user_id]) for _ in range(5)))
    assert sum(await world.log.ends("vault")) == before + 1


def refusal(error: MillraceError) -> grpc.aio.AioRpcError:
    """As the server answers it."""
    status = status_of(error, "f" * 32)
    trailing = grpc.aio.Metadata(*status.trailing_metadata)
    return grpc.aio.AioRpcError(status.code, grpc.aio.Metadata(), trailing, details="no")


async def test_what_grpc_itself_says_of_a_break_is_a_break() -> None:
    """An INTERNAL of our servers has a reason; it is not tried again, and may have been done."""
    broken = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="from Core"
    )
    async with Client("127.0.0.1:1", connections=1, deadline_s=3.0) as client:
        answers = [broken, refusal(MillraceError("ours"))]

        async def once(_: Attempt) -> None:
            raise answers.pop(0)

        with pytest.raises(OutcomeUnknown) as unknown:
            await client.tried_again(once, write=True)
    assert (unknown.value.reason, client.retries) == ("INTERNAL", 1)


async def test_a_session_that_a_retry_finds_ended_was_logged_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = Unauthenticated("the session has ended", reason="SESSION_ENDED")
    async with Client("127.0.0.1:1", connections=1, deadline_s=3.0) as client:
        ana = Session(1, "token")
        answers: list[MillraceError] = []

        async def once(_: Attempt) -> None:
            raise refusal(answers.pop(0))

        async def call(*_: object, **__: object) -> None:
            await client.tried_again(once, ana, write=True)

        monkeypatch.setattr(client, "call", call)
        answers[:] = [StoreUnavailable("away"), ended]
        assert not await client.log_out(ana)
        answers[:] = [ended]
        with pytest.raises(Unauthenticated):
            await client.log_out(ana)
