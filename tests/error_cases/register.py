"""Cases by their name in docs/errors.md, and what several of them need."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from social.v1 import users_pb2
from tests.serving import PASSWORD, Person, Refusal, World, refusal

Make = Callable[[World, Person, pytest.MonkeyPatch], Awaitable[Refusal]]
MADE: dict[str, Make] = {}
NOBODY = 10**15


def case(name: str) -> Callable[[Make], Make]:
    """Registers what makes a row of the document happen."""

    def register(make: Make) -> Make:
        assert name not in MADE
        MADE[name] = make
        return make

    return register


def request_id() -> str:
    return str(uuid.uuid4())


def register(world: World, handle: str, **changed: str) -> Any:
    fields = {"request_id": request_id(), "handle": handle, "password": PASSWORD, **changed}
    return world.users.Register(users_pb2.RegisterRequest(**fields))


def read(world: World, user_id: int = 1, **options: Any) -> Any:
    return world.users.GetUsers(users_pb2.GetUsersRequest(user_ids=[user_id]), **options)


def read_as(world: World, token: str) -> Any:
    return read(world, metadata=(("authorization", f"Bearer {token}"),))


def update(world: World, ana: Person, **fields: Any) -> Any:
    request = users_pb2.UpdateProfileRequest(request_id=request_id(), **fields)
    return world.users.UpdateProfile(request, metadata=ana.metadata)


def at(ana: Person, position: str) -> tuple[tuple[str, str], ...]:
    return (ana.metadata[0], ("millrace-position", position))


async def alike(who: Person, *tries: tuple[Any, Any]) -> Refusal:
    """All (RPC, request) are refused for the same reason."""
    refused = [await refusal(rpc(request, metadata=who.metadata)) for rpc, request in tries]
    assert len({(one.code, one.reason) for one in refused}) == 1
    return refused[0]


def failing(patched: pytest.MonkeyPatch, of: object, method: str, error: Exception) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    patched.setattr(of, method, fail)


async def ended(world: World, ana: Person) -> tuple[Refusal, str]:
    """A session that ends because its first refresh token is shown again: how, and its last."""
    token = ana.refresh_token
    for _ in range(2):
        request = users_pb2.RefreshTokenRequest(refresh_token=token)
        token = (await world.users.RefreshToken(request)).refresh_token
        await world.process_all()
    copied = users_pb2.RefreshTokenRequest(refresh_token=ana.refresh_token)
    return await refusal(world.users.RefreshToken(copied)), token
