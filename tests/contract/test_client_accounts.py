"""The client's account and comment methods against the services on the memory twins."""

from collections.abc import AsyncIterator

import pytest

from millrace.client import Client, Session, new_request_id
from millrace.errors import (
    AlreadyExists,
    FailedPrecondition,
    OutcomeUnknown,
    PermissionDenied,
    Unauthenticated,
)
from millrace.log.port import Appended
from tests.account_calls import bearer, log_out
from tests.contract.test_media import picture
from tests.serving import PASSWORD, World, serving

NEW_PASSWORD = "battery staple"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with Client(world.address, connections=2, deadline_s=5.0) as made:
        yield made


@pytest.fixture
async def ana(client: Client) -> Session:
    return await client.register("ana", PASSWORD)


async def test_a_logged_out_session_is_over_and_the_others_are_not(
    client: Client, ana: Session
) -> None:
    other = await client.log_in("ana", PASSWORD)
    assert await client.log_out(other)
    with pytest.raises(Unauthenticated):
        await client.get_users(other, [ana.user_id])
    third = await client.log_in("ana", PASSWORD)
    assert await client.log_out(third, all_sessions=True)
    with pytest.raises(Unauthenticated):
        await client.get_users(ana, [ana.user_id])


async def test_a_changed_password_keeps_this_session_alone(client: Client, ana: Session) -> None:
    other = await client.log_in("ana", PASSWORD)
    with pytest.raises(PermissionDenied):
        await client.change_password(ana, "not the one", NEW_PASSWORD)
    assert await client.change_password(ana, PASSWORD, NEW_PASSWORD)
    assert (await client.get_users(ana, [ana.user_id])).users
    with pytest.raises(Unauthenticated):
        await client.get_users(other, [ana.user_id])
    assert (await client.log_in("ana", NEW_PASSWORD)).user_id == ana.user_id


async def test_who_goes_away_comes_back(client: Client, ana: Session) -> None:
    ben = await client.register("ben", PASSWORD)
    assert await client.deactivate_user(ana)
    assert not (await client.get_users(ben, [ana.user_id])).users
    again = await client.log_in("ana", PASSWORD)
    assert again.deactivated
    with pytest.raises(FailedPrecondition):
        await client.follow(again, ben.user_id)
    await client.reactivate_user(again)
    await client.follow(again, ben.user_id)
    assert (await client.get_users(ben, [ana.user_id])).users


async def test_a_session_that_another_device_ended_proves_nothing(
    world: World, client: Client, ana: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a first try that came to nothing and its retry."""
    other, third = [await client.log_in("ana", PASSWORD) for _ in range(2)]
    right = world.log.append
    ends: list[tuple[Session, bool]] = []

    async def failing(*_: object, **__: object) -> Appended:
        monkeypatch.setattr(world.log, "append", right)
        session, all_sessions = ends.pop()
        await log_out(world, bearer(session.access_token), all_sessions=all_sessions)
        raise OutcomeUnknown("not written")

    monkeypatch.setattr(world.log, "append", failing)
    ends.append((third, False))
    with pytest.raises(OutcomeUnknown) as unknown:
        await client.log_out(third, all_sessions=True)
    assert unknown.value.reason == "SESSION_ENDED"
    assert (await client.get_users(ana, [ana.user_id])).users

    monkeypatch.setattr(world.log, "append", failing)
    ends.append((other, True))
    with pytest.raises(OutcomeUnknown) as unknown:
        await client.deactivate_user(ana)
    assert unknown.value.reason == "SESSION_ENDED"
    assert not (await client.log_in("ana", PASSWORD)).deactivated


async def test_a_changed_handle_is_found_and_the_old_one_free(client: Client, ana: Session) -> None:
    ben = await client.register("ben", PASSWORD)
    with pytest.raises(AlreadyExists):
        await client.change_handle(ana, "Ben")
    await client.change_handle(ana, "anna")
    found = (await client.get_users(ben, handles=["anna", "ana"])).users
    assert [user.id for user in found] == [ana.user_id]
    assert (await client.register("ana", PASSWORD)).user_id != ana.user_id


async def test_comments_and_captions(client: Client, ana: Session) -> None:
    ben = await client.register("ben", PASSWORD)
    item = await client.upload(ana, picture(), "see")
    await client.edit_caption(ana, item.id, "sea")
    assert (await client.get_media(ana, [item.id])).items[0].caption == "sea"
    name = new_request_id()
    said = [await client.add_comment(ben, item.id, "hi @ana", request_id=name) for _ in range(2)]
    assert said[0].id == said[1].id
    assert [mention.user_id for mention in said[0].mentions] == [ana.user_id]
    second = await client.add_comment(ana, item.id, "hello")
    shown = [one.text async for one in client.comments(ben, item.id, page_size=1)]
    assert shown == ["hello", "hi @ana"]
    with pytest.raises(PermissionDenied):
        await client.delete_comment(ben, item.id, second.id)
    assert await client.delete_comment(ana, item.id, said[0].id)
    assert [one.id async for one in client.comments(ben, item.id)] == [second.id]
