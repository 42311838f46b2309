"""Cases of ending sessions, changing the password or the handle, going away and coming back."""

import pytest

from tests.account_calls import (
    bearer,
    change_password,
    deactivate,
    log_in,
    log_out,
    refresh,
    rename,
)
from tests.error_cases.register import case, read_as, register, request_id
from tests.serving import Person, Refusal, World, refusal


@case("An access token of a session that ended with all others of its user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    other = await log_in(world, "ana")
    await log_out(world, bearer(other.access_token), all_sessions=True)
    return await refusal(read_as(world, ana.access_token))


@case("An access token of a deactivated user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await deactivate(world, ana.metadata)
    again = await log_in(world, "ana")
    assert again.deactivated
    return await refusal(read_as(world, again.access_token))


@case("Register: a retry, and the password has been changed since")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    once = request_id()
    ben = await register(world, "ben", request_id=once)
    await change_password(world, bearer(ben.access_token), "another horse")
    return await refusal(register(world, "ben", request_id=once))


@case("RefreshToken: of a session that ended with all others of its user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await log_out(world, ana.metadata, all_sessions=True)
    return await refusal(refresh(world, ana.refresh_token))


@case("LogOut: of all sessions, with a token whose own session alone has ended")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await log_out(world, ana.metadata)
    return await refusal(log_out(world, ana.metadata, all_sessions=True))


@case("ChangePassword: the old password is wrong")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(change_password(world, ana.metadata, "another horse", "wrong horse"))


@case("ChangePassword, DeactivateUser: a retry, and it was done")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await change_password(world, ana.metadata, "another horse")
    first = await refusal(change_password(world, ana.metadata, "another horse"))
    again = await log_in(world, "ana", "another horse")
    await deactivate(world, bearer(again.access_token))
    refused = await refusal(deactivate(world, bearer(again.access_token)))
    assert (first.code, first.reason) == (refused.code, refused.reason)
    return refused


@case("ChangeHandle: the handle is taken, in any case of letters")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    await register(world, "ben")
    return await refusal(rename(world, ana, "BEN"))


@case("ChangeHandle: a request_id again for the same handle, with another body")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    once = request_id()
    await rename(world, ana, "ben", once)
    return await refusal(rename(world, ana, "Ben", once))


@case("ChangeHandle: the user's data key was destroyed")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    async def none(_: int) -> None:
        return None

    patched.setattr(type(world.parts.data_keys), "of", lambda _self, user_id: none(user_id))
    return await refusal(rename(world, ana, "ben"))
