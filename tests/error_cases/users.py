"""Cases of UsersService."""

import grpc
import pytest

from social.v1 import users_pb2
from tests.error_cases.register import NOBODY, case, ended, read, register, request_id, update
from tests.serving import PASSWORD, Person, Refusal, World, refusal


@case("Register: the handle is taken, in any case of letters")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(register(world, "ANA"))


@case("Register: a request_id again for the same handle, with another body")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    once = request_id()
    await register(world, "ben", request_id=once)
    return await refusal(register(world, "ben", request_id=once, display_name="Ben"))


@case("Register: passwords are being checked faster than this process can")
async def _(world: World, _ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.passwords, "_pending_max", 0)
    return await refusal(register(world, "ben"))


@case("LogIn: nobody has the handle")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    request = users_pb2.LogInRequest(handle="nobody", password=PASSWORD)
    return await refusal(world.users.LogIn(request))


@case("LogIn: the password is wrong")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    request = users_pb2.LogInRequest(handle="ana", password="wrong horse")
    return await refusal(world.users.LogIn(request))


@case("RefreshToken: not one of ours")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    token = ana.refresh_token[:-4] + "AAAA"
    return await refusal(
        world.users.RefreshToken(users_pb2.RefreshTokenRequest(refresh_token=token))
    )


@case("RefreshToken: an older one, used again too late")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return (await ended(world, ana))[0]


@case("RefreshToken: of a session that has ended")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    newest = (await ended(world, ana))[1]
    request = users_pb2.RefreshTokenRequest(refresh_token=newest)
    return await refusal(world.users.RefreshToken(request))


@case("GetUsers: both lists, or none")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    for request in (
        users_pb2.GetUsersRequest(),
        users_pb2.GetUsersRequest(user_ids=[1], handles=["ana"]),
    ):
        refused = await refusal(world.users.GetUsers(request, metadata=ana.metadata))
    return refused


@case("GetUsers: an unknown user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    answer = await read(world, NOBODY, metadata=ana.metadata)
    assert not answer.users
    return Refusal(grpc.StatusCode.OK, "", "", "", (), None)


@case("UpdateProfile: private = true")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(update(world, ana, private=True))


@case("UpdateProfile: the user's data key was destroyed")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    async def none(_: int) -> None:
        return None

    patched.setattr(type(world.parts.data_keys), "of", lambda _self, user_id: none(user_id))
    return await refusal(update(world, ana, bio="I swim"))
