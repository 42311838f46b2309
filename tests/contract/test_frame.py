"""What the frame does around every handler, seen by a client."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from millrace.errors import Bug, NotFound, OutcomeUnknown, StoreUnavailable, Unimplemented
from millrace.log.partitioner import key_of
from millrace.log.port import TRACE_HEADER
from millrace.observe import trace
from services.call import Call
from services.parts import Parts
from services.rpc import Service, rpcs_of
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked
from social.v1 import likes_pb2 as pb
from social.v1 import likes_pb2_grpc
from tests.serving import Person, World, position_of, refusal, serving

LIKES = pb.DESCRIPTOR.services_by_name["LikesService"]
SECRET = "duplicate key value violates unique constraint (email)=(ana@example.org)"


class Probe:
    """A LikesService that does what the media id says."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def like_media(self, call: Call, request: pb.LikeMediaRequest) -> pb.LikeMediaResponse:
        self.seen.append(request.media_id)
        liked = MediaLiked(user_id=call.user_id, media_id=request.media_id)
        await call.append("likes", key_of(call.user_id), LikesEvent(liked=liked))
        return pb.LikeMediaResponse()

    async def unlike_media(
        self, call: Call, request: pb.UnlikeMediaRequest
    ) -> pb.UnlikeMediaResponse:
        match request.media_id:
            case 1:
                raise KeyError(SECRET)
            case 2:
                raise StoreUnavailable(SECRET)
            case 3:
                raise OutcomeUnknown(SECRET)
            case 4:
                raise Bug(SECRET)
            case 5:
                raise NotFound("there is no such media item", reason="MEDIA_NOT_FOUND")
            case 6:
                await asyncio.Event().wait()
        return pb.UnlikeMediaResponse()

    async def record_likes(
        self, call: Call, requests: AsyncIterator[pb.RecordLikesRequest]
    ) -> AsyncIterator[pb.RecordLikesResponse]:
        async for request in requests:
            last = request.likes[-1].sequence
            self.seen.append(last)
            yield pb.RecordLikesResponse(acknowledged_sequence=last)


class Probed:
    """A world with the probe in it, and somebody who calls."""

    def __init__(self, world: World, probe: Probe, ana: Person) -> None:
        self.world = world
        self.probe = probe
        self.ana = ana
        self.likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)

    def like(self, media_id: int = 9, **options: Any) -> Any:
        request = pb.LikeMediaRequest(request_id=str(uuid.uuid4()), media_id=media_id)
        return self.likes.LikeMedia(request, **{"metadata": self.ana.metadata, **options})

    def unlike(self, media_id: int, **options: Any) -> Any:
        request = pb.UnlikeMediaRequest(request_id=str(uuid.uuid4()), media_id=media_id)
        return self.likes.UnlikeMedia(request, **{"metadata": self.ana.metadata, **options})


@pytest.fixture(scope="module")
async def probed() -> AsyncIterator[Probed]:
    probe = Probe()
    async with serving([Service(LIKES, probe)], handler_deadline_s=0.5, apply_wait_s=0.4) as world:
        yield Probed(world, probe, await world.register("ana"))


async def test_broken_fields_are_named_before_anybody_is_asked_for(probed: Probed) -> None:
    refused = await refusal(probed.likes.LikeMedia(pb.LikeMediaRequest(media_id=-1)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "INVALID_FIELD"
    assert refused.fields == ("request_id", "media_id")
    assert "request_id" in refused.message


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_MISSING"),
        ("Basic YTpi", "TOKEN_INVALID"),
        ("Bearer x", "TOKEN_INVALID"),
        ("Bearer ", "TOKEN_INVALID"),
    ],
)
async def test_without_a_valid_token_nobody_comes_in(
    probed: Probed, authorization: str | None, reason: str
) -> None:
    metadata = () if authorization is None else (("authorization", authorization),)
    refused = await refusal(probed.like(metadata=metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_a_token_of_a_session_that_never_was_is_refused(probed: Probed) -> None:
    token, _ = probed.world.parts.tokens.issue(probed.ana.user_id, b"x" * 16)
    refused = await refusal(probed.like(metadata=(("authorization", f"Bearer {token}"),)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")


@pytest.mark.parametrize(
    ("media_id", "code", "reason"),
    [
        (1, grpc.StatusCode.INTERNAL, "INTERNAL"),
        (2, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (3, grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN"),
        (4, grpc.StatusCode.INTERNAL, "INTERNAL"),
        (5, grpc.StatusCode.NOT_FOUND, "MEDIA_NOT_FOUND"),
        (6, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    ],
)
async def test_an_error_is_what_the_table_says_and_tells_nothing_of_a_store(
    probed: Probed, media_id: int, code: grpc.StatusCode, reason: str
) -> None:
    refused = await refusal(probed.unlike(media_id))
    assert (refused.code, refused.reason) == (code, reason)
    assert len(refused.trace) == 32
    assert "ana@example.org" not in repr(refused)
    if code == grpc.StatusCode.INTERNAL:
        assert refused.trace in refused.message
    assert (refused.retry_after_s is not None) == (code == grpc.StatusCode.UNAVAILABLE)


async def test_what_is_unexpected_is_logged_with_its_trace(
    probed: Probed, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = await refusal(probed.unlike(1))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    (failed,) = [line for line in lines if line["event"] == "failed"]
    assert failed["trace"] == refused.trace
    assert "KeyError" in failed["exception"]


async def test_the_clients_deadline_counts_if_it_is_shorter(probed: Probed) -> None:
    refused = await refusal(probed.unlike(6, timeout=0.05))
    assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_has_no_handler_is_unimplemented_with_a_reason(probed: Probed) -> None:
    refused = await refusal(probed.likes.ListLikers(pb.ListLikersRequest()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")


async def test_a_refusal_keeps_nothing_of_former_calls() -> None:
    """One error raised by every call would hold the frames of all of them."""
    refuse: Any = next(rpc.handle for rpc in rpcs_of(Service(LIKES, None), 1.0))
    seen = []
    for _ in range(2):
        with pytest.raises(Unimplemented) as refused:
            await refuse(None, None)
        seen.append(refused.value)
    assert seen[0] is not seen[1]


async def test_a_write_answers_a_position_and_carries_the_trace(probed: Probed) -> None:
    sent = "0af7651916cd43dd8448eb211c80319c"
    call = probed.like(
        metadata=(*probed.ana.metadata, (trace.TRACEPARENT, trace.traceparent_of(sent)))
    )
    await call
    position = dict(await call.trailing_metadata())["millrace-position"]
    assert len(position) < 150
    log = probed.world.log
    (partition,) = [p for p, end in enumerate(await log.ends("likes")) if end]
    record = log.after("likes", partition, 0, 1000)[-1]
    assert record.headers[TRACE_HEADER].decode() == sent
    # Whose caller asks for no telling has an id, too, but costs the log nothing.
    await probed.like()
    assert TRACE_HEADER not in log.after("likes", partition, 0, 1000)[-1].headers


@pytest.mark.parametrize("position", ["x", "AAAA", "_" * 200])
async def test_a_position_that_nobody_gave_out_is_invalid(probed: Probed, position: str) -> None:
    metadata = (probed.ana.metadata[0], ("millrace-position", position))
    refused = await refusal(probed.like(metadata=metadata))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "POSITION_TOKEN_INVALID"


async def test_a_position_of_another_log_is_told_so(probed: Probed) -> None:
    async with serving() as other:
        foreign = (await other.register("ben")).position
    metadata = (probed.ana.metadata[0], ("millrace-position", foreign))
    refused = await refusal(probed.like(metadata=metadata))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "POSITION_OF_ANOTHER_LOG"


async def test_a_write_answers_a_position_that_covers_all_that_were_sent(probed: Probed) -> None:
    """Of two writes at once neither answer covers the other."""
    like, tokens = probed.like(), probed.world.server.frame._tokens
    await like
    own = tokens.read([await position_of(like)])
    other = replace(own, numbers={"media": 9})
    texts = [await position_of(like), tokens.write(other)]
    both = (probed.ana.metadata[0], *(("millrace-position", text) for text in texts))
    third = probed.like(metadata=both)
    await third
    answered = tokens.read([await position_of(third)]).numbers
    assert answered["media"] == 9
    assert answered["likes"] > own.numbers["likes"]


async def test_every_item_of_a_stream_is_checked(probed: Probed) -> None:
    probed.probe.seen.clear()
    request_id = str(uuid.uuid4())

    async def items() -> AsyncIterator[pb.RecordLikesRequest]:
        first = pb.RecordedLike(sequence=1, media_id=5)
        yield pb.RecordLikesRequest(request_id=request_id, likes=[first])
        yield pb.RecordLikesRequest(request_id=request_id, likes=[])

    call = probed.likes.RecordLikes(items(), metadata=probed.ana.metadata)
    assert (await call.read()).acknowledged_sequence == 1
    refused = await refusal(call.read())
    assert probed.probe.seen == [1]
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("likes",))


async def test_a_stream_needs_a_token_as_well(probed: Probed) -> None:
    call = probed.likes.RecordLikes(iter(()))
    refused = await refusal(call.read())
    assert refused.reason == "TOKEN_MISSING"


async def test_more_calls_than_the_limit_are_refused() -> None:
    async with serving([Service(LIKES, Probe())], grpc_calls_max=2) as world:
        few = Probed(world, Probe(), await world.register("ana"))
        waiting = [asyncio.ensure_future(few.unlike(6)) for _ in range(2)]
        while REGISTRY.get_sample_value("millrace_rpcs_running") != 2:
            await asyncio.sleep(0.001)
        refused = await refusal(few.like())
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refused.retry_after_s


async def test_rpcs_are_counted_by_method_and_code(probed: Probed) -> None:
    labels = {"method": "/social.v1.LikesService/UnlikeMedia", "code": "NOT_FOUND"}
    before = REGISTRY.get_sample_value("millrace_rpcs_total", labels) or 0
    await refusal(probed.unlike(5))
    assert REGISTRY.get_sample_value("millrace_rpcs_total", labels) == before + 1


async def test_health_and_reflection_are_open(probed: Probed) -> None:
    health: Any = health_pb2_grpc.HealthStub(probed.world.channel)
    for name in ("", "social.v1.LikesService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    channel: Any = probed.world.channel
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async for listed in reflection.ServerReflectionInfo(iter((asked,))):
        names = {service.name for service in listed.list_services_response.service}
        assert {"social.v1.LikesService", "social.v1.UsersService"} <= names


class Misspelt:
    async def like_medium(self, call: Call, request: object) -> None:
        """No such RPC."""


class NoStream:
    async def record_likes(self, call: Call, requests: object) -> None:
        """Answers a stream and does not yield."""


@pytest.mark.parametrize("servicer", [Misspelt(), NoStream()])
def test_a_servicer_that_cannot_be_served_stops_the_start(servicer: object) -> None:
    with pytest.raises(Bug):
        list(rpcs_of(Service(LIKES, servicer), 1.0))


def test_parts_hide_no_keys_in_their_repr(probed: Probed) -> None:
    parts: Parts = probed.world.parts
    assert parts.keys.master.hex() not in repr(parts)
    assert repr(parts.keys.master) not in repr(parts)
