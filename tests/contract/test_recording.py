"""RecordLikes as any client sees it, on the memory twins: numbers, refusals, breaks, bounds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest

from millrace.errors import OutcomeUnknown
from millrace.log.port import NewRecord
from millrace.log.position_token import decode
from millrace.views import likes as likes_view
from millrace.views.likes import LIKES
from services.recording import Recording
from social.v1 import likes_pb2 as pb
from social.v1 import likes_pb2_grpc, media_pb2, media_pb2_grpc, users_pb2
from tests.contract.test_media import picture, requests, upload
from tests.serving import Person, World, position_of, refusal, serving
from tests.serving import new_request_id as new_id

GONE = 10**15


class Scene:
    """Ana's items, and Ben, who records likes of them."""

    def __init__(self, world: World, ana: Person, ben: Person, items: list[int]) -> None:
        self.world = world
        self.ana = ana
        self.ben = ben
        self.items = items
        self.likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)

    def stream(self, who: Person | None = None) -> Any:
        return self.likes.RecordLikes(metadata=(who or self.ben).metadata)

    def message(
        self, first: int, media_ids: Iterable[int], *, request_id: str = "", unlike: bool = False
    ) -> pb.RecordLikesRequest:
        likes = [
            pb.RecordedLike(sequence=first + n, media_id=media_id, unlike=unlike)
            for n, media_id in enumerate(media_ids)
        ]
        return pb.RecordLikesRequest(request_id=request_id or REQUEST_ID, likes=likes)

    async def likers(self, media_id: int) -> list[int]:
        await self.world.process_all()
        edges = await LIKES.page(self.world.store, media_id, after=None, limit=100)
        counts = await LIKES.count(self.world.store, [media_id])
        assert counts[media_id] == len(edges)
        return [edge.target for edge in edges]


REQUEST_ID = new_id()


async def scene_in(world: World) -> Scene:
    ana, ben = await world.register("ana"), await world.register("ben")
    colours = ("teal", "red", "navy", "white")
    items = [
        (await upload(world, ana, requests(picture(colour), new_id()))).id for colour in colours
    ]
    return Scene(world, ana, ben, items)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with serving(recording_check_s=0.05) as world:
        yield await scene_in(world)


async def acknowledged(call: Any, up_to: int) -> list[pb.RefusedLike]:
    """What was refused until this number is acknowledged, which only grows."""
    refused, last = [], 0
    while last < up_to:
        answer = await call.read()
        assert answer is not grpc.aio.EOF
        assert answer.acknowledged_sequence > last
        last = answer.acknowledged_sequence
        refused += answer.refused
    assert last == up_to
    return refused


async def ended(call: Any) -> Any:
    """How a call ends that is read to its end and must fail."""

    async def read_all() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    return await refusal(read_all())


async def test_likes_and_unlikes_are_acknowledged_in_order_and_have_a_position(
    scene: Scene,
) -> None:
    one, two, three, _ = scene.items
    await scene.world.hold(likes_view.VIEW)
    call = scene.stream()
    await call.write(scene.message(1, [one, two, three]))
    assert not await acknowledged(call, 3)
    await call.write(scene.message(4, [two], unlike=True))
    await call.write(scene.message(5, [one]))
    await call.done_writing()
    assert not await acknowledged(call, 5)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    at = replace(scene.ben, position=await position_of(call))
    listing = scene.likes.ListLikers(pb.ListLikersRequest(media_id=one), metadata=at.metadata)
    assert (await listing).stale
    scene.world.release(likes_view.VIEW)
    assert [await scene.likers(item) for item in (one, two, three)] == [
        [scene.ben.user_id],
        [],
        [scene.ben.user_id],
    ]


async def test_what_liking_would_refuse_is_reported_and_the_stream_goes_on(scene: Scene) -> None:
    call = scene.stream()
    await call.write(scene.message(7, [GONE, scene.items[0]]))
    (refused,) = await acknowledged(call, 8)
    assert (refused.sequence, refused.code) == (7, grpc.StatusCode.NOT_FOUND.value[0])
    assert refused.reason.startswith("MEDIA_NOT_FOUND: ")
    media = media_pb2_grpc.MediaServiceStub(scene.world.channel)
    deleting = media_pb2.DeleteMediaRequest(request_id=new_id(), media_id=scene.items[1])
    await media.DeleteMedia(deleting, metadata=scene.ana.metadata)
    await call.write(scene.message(9, [scene.items[1], scene.items[2]]))
    assert [one.sequence for one in await acknowledged(call, 10)] == [9]
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK
    assert await scene.likers(scene.items[2]) == [scene.ben.user_id]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (lambda scene: scene.message(4, [scene.items[1]]), "RECORDING_OUT_OF_SEQUENCE"),
        (lambda scene: scene.message(2, [scene.items[1]]), "RECORDING_OUT_OF_SEQUENCE"),
        (
            lambda scene: scene.message(3, [scene.items[1]], request_id=new_id()),
            "RECORDING_REQUEST_ID_CHANGED",
        ),
    ],
)
async def test_a_message_out_of_order_ends_the_stream_behind_what_was_in_order(
    scene: Scene, second: Callable[[Scene], pb.RecordLikesRequest], reason: str
) -> None:
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0], scene.items[1]]))
    await call.write(second(scene))
    await acknowledged(call, 2)
    found = await ended(call)
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert await scene.likers(scene.items[0]) == [scene.ben.user_id]


async def test_a_cut_connection_is_taken_up_above_the_last_acknowledgement(scene: Scene) -> None:
    """Sets and counts are exact, whatever of the unacknowledged was written before the cut."""
    sent = [(item, unlike) for _ in range(50) for unlike in (False, True) for item in scene.items]
    sent += [(scene.items[0], False), (scene.items[3], False)]
    likes = [
        pb.RecordedLike(sequence=n, media_id=item, unlike=unlike)
        for n, (item, unlike) in enumerate(sent, start=1)
    ]
    done = cuts = 0
    while done < len(likes):
        call = scene.stream()
        for at in range(done, len(likes), 10):
            some = likes[at : at + 10]
            await call.write(pb.RecordLikesRequest(request_id=REQUEST_ID, likes=some))
        answer = await call.read()
        assert answer.acknowledged_sequence > done
        done = answer.acknowledged_sequence
        call.cancel()
        cuts += 1
    assert cuts > 1
    likers = [await scene.likers(item) for item in scene.items]
    assert likers == [[scene.ben.user_id], [], [], [scene.ben.user_id]]


async def test_a_log_that_does_not_acknowledge_ends_the_stream_behind_what_is_sure(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = scene.world.log.append_many
    rounds = 0

    async def second_fails(topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise OutcomeUnknown("10.0.0.7 does not answer")
        return await written(topic, records)

    monkeypatch.setattr(scene.world.log, "append_many", second_fails)
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0]]))
    await acknowledged(call, 1)
    await call.write(scene.message(2, [scene.items[1]]))
    found = await ended(call)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    again = scene.stream()
    await again.write(scene.message(2, [scene.items[1]]))
    await again.done_writing()
    await acknowledged(again, 2)
    assert await scene.likers(scene.items[1]) == [scene.ben.user_id]


async def test_no_more_is_read_than_the_log_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow log, and a client that reads nothing: what is held stays within the bound."""
    async with serving(recording_unacknowledged_max=10) as world:
        scene = await scene_in(world)
        admitted: list[int] = []
        free, written = asyncio.Event(), world.log.append_many

        async def slow(topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
            records = list(records)
            admitted.append(len(records))
            await free.wait()
            return await written(topic, records)

        monkeypatch.setattr(world.log, "append_many", slow)
        call = scene.stream()
        for first in range(1, 101, 5):
            await call.write(scene.message(first, scene.items + scene.items[:1]))
        await call.done_writing()
        while not admitted:
            await asyncio.sleep(0)
        free.set()
        await acknowledged(call, 100)
        assert await call.code() is grpc.StatusCode.OK
        assert sum(admitted) == 100
        assert max(admitted) <= 10 + 5


async def test_a_client_that_reads_late_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is refused than a connection holds: the server waits, and reads no further."""
    count, each = 40_000, 1_000
    admitted = held_max = 0
    async with serving(recording_unacknowledged_max=each) as world:
        scene = await scene_in(world)
        admit = Recording._admit

        async def counted(self: Recording, likes: Sequence[pb.RecordedLike]) -> Any:
            nonlocal admitted, held_max
            admitted += len(likes)
            held_max = max(held_max, self._read - self._told)
            return await admit(self, likes)

        monkeypatch.setattr(Recording, "_admit", counted)
        call = scene.stream()

        async def write_all() -> None:
            for first in range(1, count, each):
                await call.write(scene.message(first, [GONE] * each))
            await call.done_writing()

        writing = asyncio.create_task(write_all())
        while admitted < 5 * each:
            await asyncio.sleep(0.001)
        refused = await acknowledged(call, count)
        await writing
        assert await call.code() is grpc.StatusCode.OK
    assert held_max <= 2 * each
    assert [one.sequence for one in refused] == list(range(1, count + 1))


async def test_a_session_that_ends_ends_the_stream(scene: Scene) -> None:
    """Also one on which nothing is sent."""
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0]]))
    await acknowledged(call, 1)
    token = scene.ben.refresh_token
    for _ in range(2):
        refreshing = users_pb2.RefreshTokenRequest(refresh_token=token)
        token = (await scene.world.users.RefreshToken(refreshing)).refresh_token
        await scene.world.process_all()
    copied = users_pb2.RefreshTokenRequest(refresh_token=scene.ben.refresh_token)
    await refusal(scene.world.users.RefreshToken(copied))
    found = await ended(call)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")
    assert await scene.likers(scene.items[0]) == [scene.ben.user_id]


async def test_an_access_token_that_expires_ends_the_stream(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0]]))
    await acknowledged(call, 1)
    parts = scene.world.parts
    now_ms, passed_ms = parts.clock.now_ms, parts.settings.access_token_ttl_s * 1000
    monkeypatch.setattr(parts.clock, "now_ms", lambda: now_ms() + passed_ms)
    found = await ended(call)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


async def test_a_stream_on_which_nothing_is_sent_ends(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0]]))
    await acknowledged(call, 1)
    # From the next message on: until here a busy machine may take its time.
    monkeypatch.setattr(scene.world.server.frame._limits, "_idle_max_s", 0.5)
    await call.write(scene.message(2, [scene.items[1]]))
    assert (await ended(call)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await scene.likers(scene.items[1]) == [scene.ben.user_id]


async def test_a_stream_without_items_answers_the_position_of_the_earlier_ones(
    scene: Scene,
) -> None:
    call = scene.stream()
    await call.write(scene.message(1, [scene.items[0]]))
    await acknowledged(call, 1)
    call.cancel()
    await scene.world.hold(likes_view.VIEW)
    after = scene.stream()
    await after.done_writing()
    assert await after.read() is grpc.aio.EOF
    identity = scene.world.parts.control.identity
    token = decode(await position_of(after), identity.key("position token"), identity.log_id)
    needs = token.needs(["likes"])
    ends = await scene.world.log.ends("likes")
    assert list(needs.values()) == [end for end in ends if end]
    scene.world.release(likes_view.VIEW)
