"""Cases of who asks too often, or keeps streams open."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from social.v1 import media_pb2, users_pb2
from tests.account_calls import OTHER, change_password
from tests.error_cases.media import header, picture, stub
from tests.error_cases.register import case, read
from tests.serving import PASSWORD, Person, Refusal, World, refusal


@case("Too many calls, writes, uploads or bytes of a user; too many calls from an address")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.rates.user_calls, "limit", 1)
    await read(world, metadata=ana.metadata)
    refused = await refusal(read(world, metadata=ana.metadata))
    assert refused.retry_after_s
    return refused


@case("Register: too often from one address")
async def _(world: World, _ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.rates, "_loopback_counts", True)
    patched.setattr(world.parts.rates.registers, "limit", 1)
    await world.register("ben")
    request = users_pb2.RegisterRequest(
        request_id="6e0a3a1c-5b8e-4f0e-9c8e-2f6a5c1d7e10", handle="cleo", password=PASSWORD
    )
    return await refusal(world.users.Register(request))


@case("LogIn: too many wrong passwords, for the handle or from the address")
async def _(world: World, _ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.rates._handle_guesses, "limit", 1)
    wrong = users_pb2.LogInRequest(handle="ana", password="wrong horse")
    assert (await refusal(world.users.LogIn(wrong))).reason == "CREDENTIALS_INVALID"
    right = users_pb2.LogInRequest(handle="ana", password=PASSWORD)
    return await refusal(world.users.LogIn(right))


@case("ChangePassword: too many wrong old passwords, of the user or from the address")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.rates._handle_guesses, "limit", 2)
    wrong = await refusal(change_password(world, ana.metadata, OTHER, "wrong horse"))
    assert wrong.reason == "OLD_PASSWORD_WRONG"
    return await refusal(change_password(world, ana.metadata, OTHER))


@case("Too many streams of one user are open")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.server.frame._limits, "_streams_a_user_max", 0)
    return await refusal(pausing(world, ana))


@case("A stream whose client sends nothing for too long")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.server.frame._limits, "_idle_max_s", 0.1)
    return await refusal(pausing(world, ana))


def pausing(world: World, who: Person) -> asyncio.Future[object]:
    async def sent() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        yield header(picture())
        await asyncio.Event().wait()

    upload: asyncio.Future[object] = stub(world).UploadMedia(sent(), metadata=who.metadata)
    return upload
