"""Registering, sessions and profiles, as a client sees them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from millrace.log.codec import decode
from millrace.log.port import Record
from millrace.views import users, vault
from social.log.v1.names_pb2 import NameClaimed
from social.log.v1.vault_pb2 import VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD
from social.v1 import users_pb2 as pb
from tests.serving import PASSWORD, Person, World, position_of, refusal, serving


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(apply_wait_s=1.0) as world:
        yield world


def request(handle: str, **changed: Any) -> pb.RegisterRequest:
    fields = {"request_id": str(uuid.uuid4()), "handle": handle, "password": PASSWORD, **changed}
    return pb.RegisterRequest(**fields)


async def read(world: World, who: Person, **asked: Any) -> list[pb.User]:
    answer = await world.users.GetUsers(pb.GetUsersRequest(**asked), metadata=who.metadata)
    return list(answer.users)


async def events(world: World, topic: str) -> list[Any]:
    """Everything in a topic, decoded; tombstones as None."""
    return [
        decode(record).message if record.value is not None else None
        for record in await records(world, topic)
    ]


async def records(world: World, topic: str) -> list[Record]:
    return [
        record
        for partition, end in enumerate(await world.log.ends(topic))
        for record in world.log.after(topic, partition, 0, end)
    ]


# --- Register ---------------------------------------------------------------------------------


async def test_who_registers_is_there_at_once(world: World) -> None:
    ana = await world.register("Ana.B")
    (shown,) = await read(world, ana, handles=["aNA.b"])
    assert (shown.id, shown.handle, shown.display_name) == (ana.user_id, "Ana.B", "Ana.B")
    assert shown.created_at.seconds > 1_700_000_000


async def test_a_retry_is_the_same_registration(world: World) -> None:
    asked = request("ana")
    first = await world.users.Register(asked)
    second = await world.users.Register(asked)
    assert first.user_id == second.user_id
    assert first.refresh_token != second.refresh_token
    assert len(await events(world, "users")) == 1


async def test_tries_at_once_are_one_registration(world: World) -> None:
    asked = request("ana")
    answers = await asyncio.gather(*(world.users.Register(asked) for _ in range(5)))
    assert len({answer.user_id for answer in answers}) == 1
    await world.process_all()
    kept = await vault.boxes(
        world.store,
        [
            (user_id, kind, b"")
            for user_id in range(1, 8)
            for kind in (VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD)
        ],
    )
    assert {user_id for user_id, _, _ in kept} == {answers[0].user_id}


async def test_of_many_who_want_a_name_one_has_it(world: World) -> None:
    calls = [world.users.Register(request("ana")) for _ in range(5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    refused = await refusal(world.users.Register(request("ANA")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "HANDLE_TAKEN")


@pytest.mark.parametrize("changed", [{"password": "another horse"}, {"display_name": "Other"}])
async def test_a_request_id_with_another_body_is_refused(
    world: World, changed: dict[str, str]
) -> None:
    asked = request("ana")
    await world.users.Register(asked)
    other = request("ana", request_id=asked.request_id, **changed)
    refused = await refusal(world.users.Register(other))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_refused_registration_uses_up_no_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        patched.setattr(world.parts.passwords, "_pending_max", 0)
        refused = await refusal(world.users.Register(request("ben")))
    assert refused.reason == "PASSWORD_CHECKS_BUSY"
    assert (await world.register("ben")).user_id == ana.user_id + 1


async def test_a_service_that_died_after_the_claim_is_completed_by_a_retry(world: World) -> None:
    asked = request("ana", display_name="Ana")
    await world.hold(users.VIEW)
    refused = await refusal(world.users.Register(asked))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    world.release(users.VIEW)
    await world.process_all()
    assert not await events(world, "users")
    answer = await world.users.Register(asked)
    (claim,) = [one for one in await events(world, "names") if isinstance(one, NameClaimed)]
    assert answer.user_id == claim.user_id
    row = (await users.by_id(world.store, [claim.user_id]))[claim.user_id]
    assert (row.handle, row.display_name) == ("ana", "Ana")


async def test_nothing_in_the_log_tells_a_name_or_a_password(world: World) -> None:
    ana = await world.register("ana_the_first")
    update = pb.UpdateProfileRequest(
        request_id=str(uuid.uuid4()), display_name="Ana Secret", bio="my bio is secret"
    )
    await world.users.UpdateProfile(update, metadata=ana.metadata)
    secrets = (b"ana_the_first", b"Ana", b"secret", PASSWORD.encode(), b"argon2")
    for topic in ("names", "users", "vault"):
        for record in await records(world, topic):
            content = record.key + (record.value or b"")
            assert not any(secret in content for secret in secrets), topic


# --- LogIn and RefreshToken -------------------------------------------------------------------


async def test_log_in_opens_a_session_by_any_case_of_the_handle(world: World) -> None:
    ana = await world.register("ana")
    answer = await world.users.LogIn(pb.LogInRequest(handle="ANA", password=PASSWORD))
    assert answer.user_id == ana.user_id
    metadata = (("authorization", f"Bearer {answer.access_token}"),)
    asked = pb.GetUsersRequest(user_ids=[ana.user_id])
    assert (await world.users.GetUsers(asked, metadata=metadata)).users[0].handle == "ana"


async def test_a_wrong_handle_and_a_wrong_password_answer_alike(world: World) -> None:
    await world.register("ana")
    wrong = [
        await refusal(world.users.LogIn(pb.LogInRequest(handle=handle, password=password)))
        for handle, password in (("ana", "wrong horse"), ("nobody", PASSWORD))
    ]
    assert [(one.code, one.message, one.reason) for one in wrong] == [
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "handle or password is wrong",
            "CREDENTIALS_INVALID",
        )
    ] * 2


async def refreshed(world: World, token: str) -> pb.RefreshTokenResponse:
    answer = await world.users.RefreshToken(pb.RefreshTokenRequest(refresh_token=token))
    assert isinstance(answer, pb.RefreshTokenResponse)
    return answer


async def test_concurrent_and_repeated_refreshes_agree(world: World) -> None:
    ana = await world.register("ana")
    answers = await asyncio.gather(*(refreshed(world, ana.refresh_token) for _ in range(4)))
    await world.process_all()
    answers.append(await refreshed(world, ana.refresh_token))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert {answer.user_id for answer in answers} == {ana.user_id}


async def test_a_chain_of_refreshes_needs_no_view(world: World) -> None:
    token = (await world.register("ana")).refresh_token
    await world.hold(vault.VIEW)
    for _ in range(3):
        token = (await refreshed(world, token)).refresh_token
    world.release(vault.VIEW)
    await world.process_all()
    await refreshed(world, token)


async def test_a_copied_refresh_token_ends_the_session(world: World) -> None:
    ana = await world.register("ana")
    token = ana.refresh_token
    for _ in range(2):
        token = (await refreshed(world, token)).refresh_token
        await world.process_all()
    stolen = pb.RefreshTokenRequest(refresh_token=ana.refresh_token)
    refused = await refusal(world.users.RefreshToken(stolen))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "REFRESH_TOKEN_REUSED",
    )
    newest = pb.RefreshTokenRequest(refresh_token=token)
    assert (await refusal(world.users.RefreshToken(newest))).reason == "SESSION_ENDED"
    asked = pb.GetUsersRequest(user_ids=[ana.user_id])
    refused = await refusal(world.users.GetUsers(asked, metadata=ana.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")


@pytest.mark.parametrize("token", ["x", "A" * 82, "\u00e9", "=" * 82])
async def test_a_refresh_token_of_nobody_is_invalid(world: World, token: str) -> None:
    asked = pb.RefreshTokenRequest(refresh_token=token)
    refused = await refusal(world.users.RefreshToken(asked))
    assert refused.code == grpc.StatusCode.UNAUTHENTICATED
    assert refused.reason == "REFRESH_TOKEN_INVALID"


# --- GetUsers and UpdateProfile ---------------------------------------------------------------


async def test_users_come_in_the_order_asked_for_and_once(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    ids = [ben.user_id, 10**12, ana.user_id, ben.user_id]
    assert [user.handle for user in await read(world, ana, user_ids=ids)] == ["ben", "ana"]
    handles = ["BEN", "nobody", "ana", "ben"]
    assert [user.id for user in await read(world, ana, handles=handles)] == [
        ben.user_id,
        ana.user_id,
    ]


async def test_a_profile_is_replaced_as_a_whole_and_read_back_at_once(world: World) -> None:
    ana = await world.register("ana")
    update = pb.UpdateProfileRequest(request_id=str(uuid.uuid4()), bio="I swim")
    call = world.users.UpdateProfile(update, metadata=ana.metadata)
    await call
    metadata = (ana.metadata[0], ("millrace-position", await position_of(call)))
    asked = pb.GetUsersRequest(user_ids=[ana.user_id])
    answer = await world.users.GetUsers(asked, metadata=metadata)
    assert not answer.stale
    assert (answer.users[0].display_name, answer.users[0].bio) == ("", "I swim")


async def test_a_read_that_cannot_wait_says_stale(world: World) -> None:
    ana = await world.register("ana")
    await world.hold(users.VIEW)
    update = pb.UpdateProfileRequest(request_id=str(uuid.uuid4()), bio="I swim")
    call = world.users.UpdateProfile(update, metadata=ana.metadata)
    await call
    metadata = (ana.metadata[0], ("millrace-position", await position_of(call)))
    asked = pb.GetUsersRequest(user_ids=[ana.user_id])
    answer = await world.users.GetUsers(asked, metadata=metadata)
    assert answer.stale
    assert answer.users[0].bio == ""
    world.release(users.VIEW)


async def test_a_position_beyond_the_end_of_the_log_is_told_so(world: World) -> None:
    ana = await world.register("ana")
    update = pb.UpdateProfileRequest(request_id=str(uuid.uuid4()), bio="I swim")
    call = world.users.UpdateProfile(update, metadata=ana.metadata)
    await call
    metadata = (ana.metadata[0], ("millrace-position", await position_of(call)))
    await world.process_all()
    await world.hold(users.VIEW)
    for record in await records(world, "users"):
        world.log.truncate("users", record.partition, 0)
    positions = world.store._positions["users"]
    for key, stored in positions.items():
        positions[key] = stored._replace(position=0)
    world.parts.positions._views.clear()
    asked = pb.GetUsersRequest(user_ids=[ana.user_id])
    refused = await refusal(world.users.GetUsers(asked, metadata=metadata))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "POSITION_FROM_THE_FUTURE"


async def test_private_accounts_come_later(world: World) -> None:
    ana = await world.register("ana")
    update = pb.UpdateProfileRequest(request_id=str(uuid.uuid4()), private=True)
    refused = await refusal(world.users.UpdateProfile(update, metadata=ana.metadata))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
