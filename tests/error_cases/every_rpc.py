"""Cases of every RPC."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import ensure_keys
from millrace.clock import ManualClock
from millrace.errors import OutcomeUnknown, StoreUnavailable
from millrace.views import users
from social.v1 import activity_pb2, activity_pb2_grpc, follows_pb2, follows_pb2_grpc
from tests.error_cases.register import at, case, ended, failing, read, read_as, register, update
from tests.serving import Person, Refusal, World, position_of, refusal, serving


@case("A field breaks its rule")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    refused = await refusal(update(world, ana, bio="x" * 301))
    assert refused.fields == ("bio",)
    return refused


@case("A text holds U+0000")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(update(world, ana, bio="a\0b"))


@case("Bytes that are no message, or hold a text that is not UTF-8")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    half = b"\x22\x02\xed\xa0"
    channel: Any = world.channel
    upload = channel.stream_unary("/social.v1.MediaService/UploadMedia")
    tries = [
        channel.unary_unary("/social.v1.UsersService/Register")(half),
        channel.unary_unary("/social.v1.UsersService/LogIn")(b"\xff"),
        upload(iter((b"\xff",)), metadata=ana.metadata),
    ]
    refused = [await refusal(one) for one in tries]
    assert len({(one.code, one.reason) for one in refused}) == 1
    assert "protobuf" not in repr(refused)
    return refused[0]


@case("No access token")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(read(world))


@case("A garbled access token")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(read_as(world, ana.access_token[:-4] + "AAAA"))


@case("An access token that somebody else signed")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    keys = ensure_keys(Path(world.parts.settings.keys_dir).parent / "others")
    forger = AccessTokens(world.parts.settings, world.parts.clock, keys)
    return await refusal(read_as(world, forger.issue(ana.user_id, b"f" * 16)[0]))


@case("An expired access token")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    parts = world.parts
    past = ManualClock(parts.clock.now_ms() - 1000 * parts.settings.access_token_ttl_s - 1000)
    token, _expires_in_s = AccessTokens(parts.settings, past, parts.keys).issue(
        ana.user_id, b"f" * 16
    )
    return await refusal(read_as(world, token))


@case("An access token of a session that has ended")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await ended(world, ana)
    return await refusal(read_as(world, ana.access_token))


@case("A position that nobody gave out")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(read(world, metadata=at(ana, "AAAA")))


@case("More than 16 positions")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    sixteen = (ana.metadata[0], *[ana.metadata[1]] * 16)
    assert await read(world, metadata=sixteen)
    return await refusal(read(world, metadata=(*sixteen, ana.metadata[1])))


@case("A position of another log")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    async with serving() as other:
        position = (await other.register("ben")).position
    return await refusal(read(world, metadata=at(ana, position)))


@case("A position beyond the log's end")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await world.hold(users.VIEW)
    before = await world.log.ends("users")
    call = update(world, ana, bio="I swim")
    await call
    for partition, number in enumerate(before):
        if (await world.log.ends("users"))[partition] > number:
            world.log.truncate("users", partition, number)
    refused = await refusal(read(world, metadata=at(ana, await position_of(call))))
    world.release(users.VIEW)
    return refused


@case("A page token that nobody gave out")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(followers(world, ana, "AAAA"))


@case("A page token of another list")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    other = world.parts.page_tokens.encode("following", ana.user_id, 7)
    return await refusal(followers(world, ana, other))


@case("An RPC that is still to come")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    activity: Any = activity_pb2_grpc.ActivityServiceStub(world.channel)
    request = activity_pb2.ListActivityRequest()
    return await refusal(activity.ListActivity(request, metadata=ana.metadata))


@case("An RPC that no proto has")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    channel: Any = world.channel
    nothing = channel.unary_unary("/social.v1.UsersService/GetEverything")
    return await refusal(nothing(b"", metadata=ana.metadata))


@case("Metadata above 16 KiB")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(read(world, metadata=(*ana.metadata, ("x", "x" * 17_000))))


@case("Too many calls at once")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    none = world.parts.settings.model_copy(update={"grpc_calls_max": 0})
    patched.setattr(world.server.frame, "_settings", none)
    return await refusal(read(world, metadata=ana.metadata))


@case("A message above the size limit")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(update(world, ana, bio="x" * 3_000_000))


@case("The log does not acknowledge")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    failing(patched, world.log, "append", OutcomeUnknown("broker 1 at 10.0.0.7"))
    return await refusal(update(world, ana, bio="I swim"))


@case("A view does not apply a creation in time")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await world.hold(users.VIEW)
    refused = await refusal(register(world, "late"))
    world.release(users.VIEW)
    return refused


@case("A store does not answer")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    failing(patched, world.store, "get_many", StoreUnavailable("postgresql://10.0.0.7"))
    return await refusal(read(world, metadata=ana.metadata))


@case("The deadline passes")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    patched.setattr(world.store, "count", hang)
    return await refusal(read(world, metadata=ana.metadata))


@case("An error on our side")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    failing(patched, world.store, "count", ZeroDivisionError("10.0.0.7"))
    return await refusal(read(world, metadata=ana.metadata))


def followers(world: World, ana: Person, page_token: str) -> Any:
    follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
    request = follows_pb2.ListFollowersRequest(user_id=ana.user_id, page_token=page_token)
    return follows.ListFollowers(request, metadata=ana.metadata)
