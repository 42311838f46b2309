"""Ending sessions and changing the password, as clients see it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from millrace.views import vault
from services.log_ends import LogEnds
from social.v1 import users_pb2 as pb
from tests.account_calls import (
    OTHER,
    bearer,
    before,
    calls_of_every_service,
    change_password,
    log_in,
    log_out,
    opens,
    reason,
    refresh,
)
from tests.contract.test_registrations import fail_at
from tests.serving import PASSWORD, World, new_request_id, position_of, refusal, serving

FORGED = 30


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(apply_wait_s=0.5, privacy_wait_s=0.3) as world:
        yield world


# --- LogOut -----------------------------------------------------------------------------------


async def test_a_device_logs_out_alone(world: World) -> None:
    ana = await world.register("ana")
    other = await log_in(world, "ana")
    assert not (await log_out(world, ana.metadata)).pending
    assert await opens(world, ana.access_token) == "SESSION_ENDED"
    assert await reason(refresh(world, ana.refresh_token)) == "SESSION_ENDED"
    assert await opens(world, other.access_token) == ""
    await refresh(world, other.refresh_token)


async def test_all_devices_are_logged_out_and_log_in_again(world: World) -> None:
    ana = await world.register("ana")
    other = await log_in(world, "ana")
    assert not (await log_out(world, bearer(other.access_token), all_sessions=True)).pending
    for token, again in (
        (ana.access_token, ana.refresh_token),
        (other.access_token, other.refresh_token),
    ):
        assert await opens(world, token) == "SESSION_ENDED"
        assert await reason(refresh(world, again)) == "SESSION_ENDED"
    third = await log_in(world, "ana")
    fourth = await refresh(world, third.refresh_token)
    assert await opens(world, fourth.access_token) == ""


@pytest.mark.parametrize("all_sessions", [False, True])
async def test_logging_out_again_succeeds_and_ends_nothing_more(
    world: World, all_sessions: bool
) -> None:
    ana = await world.register("ana")
    await log_out(world, ana.metadata, all_sessions=all_sessions)
    later = await log_in(world, "ana")
    assert not (await log_out(world, ana.metadata, all_sessions=all_sessions)).pending
    assert await opens(world, later.access_token) == ""


async def test_an_ended_session_does_not_end_the_others(world: World) -> None:
    ana = await world.register("ana")
    other = await log_in(world, "ana")
    await log_out(world, ana.metadata)
    refused = await refusal(log_out(world, ana.metadata, all_sessions=True))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")
    assert await opens(world, other.access_token) == ""


async def test_logging_out_twice_at_once_leaves_no_session(world: World) -> None:
    """Each writes a record of its own: the later number stays, whatever was read before."""
    ana = await world.register("ana")
    other = await log_in(world, "ana")
    await world.hold(vault.VIEW)
    both = (ana.metadata, bearer(other.access_token))
    answers = await asyncio.gather(*(log_out(world, one, all_sessions=True) for one in both))
    assert all(answer.pending for answer in answers)
    world.release(vault.VIEW)
    await world.process_all()
    assert await opens(world, ana.access_token) == "SESSION_ENDED"
    assert await opens(world, other.access_token) == "SESSION_ENDED"
    assert await opens(world, (await log_in(world, "ana")).access_token) == ""


@pytest.mark.parametrize("all_sessions", [False, True])
async def test_a_refresh_during_log_out_brings_nothing_back(
    world: World, all_sessions: bool
) -> None:
    ana = await world.register("ana")
    await world.hold(vault.VIEW)
    assert (await log_out(world, ana.metadata, all_sessions=all_sessions)).pending
    slipped_in = await refresh(world, ana.refresh_token)
    world.release(vault.VIEW)
    await world.process_all()
    assert await opens(world, slipped_in.access_token) == "SESSION_ENDED"
    assert await reason(refresh(world, slipped_in.refresh_token)) == "SESSION_ENDED"


async def test_an_ended_session_opens_no_service(world: World) -> None:
    ana = await world.register("ana")
    await log_out(world, ana.metadata, all_sessions=True)
    for call in calls_of_every_service(world, ana.metadata):
        assert await reason(call) == "SESSION_ENDED"


# --- ChangePassword ---------------------------------------------------------------------------


async def test_a_new_password_ends_all_sessions_and_opens_one(world: World) -> None:
    ana = await world.register("ana")
    other = await log_in(world, "ana")
    changed = await change_password(world, ana.metadata, OTHER)
    assert not changed.pending
    assert await opens(world, ana.access_token) == "SESSION_ENDED"
    assert await reason(refresh(world, other.refresh_token)) == "SESSION_ENDED"
    assert await opens(world, changed.access_token) == ""
    assert await opens(world, (await refresh(world, changed.refresh_token)).access_token) == ""
    assert await reason(log_in(world, "ana")) == "CREDENTIALS_INVALID"
    assert await opens(world, (await log_in(world, "ana", OTHER)).access_token) == ""


async def test_a_wrong_old_password_changes_nothing(world: World) -> None:
    ana = await world.register("ana")
    refused = await refusal(change_password(world, ana.metadata, OTHER, "wrong horse"))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "OLD_PASSWORD_WRONG",
    )
    assert await opens(world, ana.access_token) == ""
    await log_in(world, "ana")
    # The new one holds already: it may be the repetition of a change that was cut off.
    await change_password(world, ana.metadata, PASSWORD, "wrong horse")


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("append", range(3))
async def test_a_change_that_was_cut_off_is_finished_by_a_retry_or_was_done(
    world: World, monkeypatch: pytest.MonkeyPatch, append: int, written: bool
) -> None:
    ana = await world.register("ana")
    request = pb.ChangePasswordRequest(
        request_id=new_request_id(), old_password=PASSWORD, new_password=OTHER
    )
    with monkeypatch.context() as patched:
        fail_at(world, patched, append, written=written)
        refused = await refusal(world.users.ChangePassword(request, metadata=ana.metadata))
        assert refused.code == grpc.StatusCode.UNAVAILABLE
    await world.process_all()
    sessions_ended = append == 2 or (append == 1 and written)
    if sessions_ended:
        call = world.users.ChangePassword(request, metadata=ana.metadata)
        assert await reason(call) == "SESSION_ENDED"
    else:
        await world.users.ChangePassword(request, metadata=ana.metadata)
    await log_in(world, "ana", OTHER)
    assert await reason(log_in(world, "ana")) == "CREDENTIALS_INVALID"
    assert await opens(world, ana.access_token) == "SESSION_ENDED"


async def test_a_change_that_the_view_has_not_yet_says_pending(world: World) -> None:
    ana = await world.register("ana")
    await world.hold(vault.VIEW)
    changed = await change_password(world, ana.metadata, OTHER)
    assert changed.pending
    world.release(vault.VIEW)
    await world.process_all()
    assert await opens(world, changed.access_token) == ""
    assert await opens(world, ana.access_token) == "SESSION_ENDED"


async def test_a_log_in_with_the_position_of_a_new_password_waits_for_it() -> None:
    async with serving(privacy_wait_s=0.1, token_wait_ms=10_000) as world:
        ana = await world.register("ana")
        await world.hold(vault.VIEW)
        request = pb.ChangePasswordRequest(
            request_id=new_request_id(), old_password=PASSWORD, new_password=OTHER
        )
        change = world.users.ChangePassword(request, metadata=ana.metadata)
        assert (await change).pending
        covering = (("millrace-position", await position_of(change)),)
        login = pb.LogInRequest(handle="ana", password=OTHER)
        call = asyncio.ensure_future(world.users.LogIn(login, metadata=covering))
        await asyncio.wait({call}, timeout=0.1)
        world.release(vault.VIEW)
        assert await opens(world, (await call).access_token) == ""


async def test_of_two_changes_at_once_one_password_and_at_most_one_session_stay(
    world: World,
) -> None:
    ana = await world.register("ana")
    answers = await asyncio.gather(
        *(change_password(world, ana.metadata, new) for new in (OTHER, "third horse")),
        return_exceptions=True,
    )
    tokens = [one.access_token for one in answers if not isinstance(one, BaseException)]
    assert [await opens(world, token) for token in tokens].count("") == 1
    tries = [log_in(world, "ana", new) for new in (PASSWORD, OTHER, "third horse")]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in done) == 1


async def test_a_log_in_with_the_password_of_a_moment_ago_is_worth_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        before(
            patched,
            world.parts.passwords,
            "matches",
            lambda: change_password(world, ana.metadata, OTHER),
        )
        late = await log_in(world, "ana")
    assert await opens(world, late.access_token) == "SESSION_ENDED"
    assert await reason(refresh(world, late.refresh_token)) == "SESSION_ENDED"


async def test_a_copied_registration_opens_nothing_after_a_change(world: World) -> None:
    asked = pb.RegisterRequest(
        request_id=new_request_id(), handle="ana", password=PASSWORD, display_name="Ana"
    )
    ana = await world.users.Register(asked)
    assert (await world.users.Register(asked)).user_id == ana.user_id
    await change_password(world, bearer(ana.access_token), OTHER)
    refused = await refusal(world.users.Register(asked))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "HANDLE_TAKEN")


# --- What a forger costs ----------------------------------------------------------------------


async def test_forged_refresh_tokens_share_their_looks_at_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    await world.process_all()
    asked, looks = 0, 0
    all_asked = asyncio.Event()
    of, ends = world.parts.log_ends.of, world.log.ends

    async def counted(topic: str) -> Any:
        nonlocal asked
        asked += 1
        if asked == FORGED:
            all_asked.set()
        return await of(topic)

    async def looked(topic: str) -> Any:
        nonlocal looks
        looks += 1
        await all_asked.wait()
        return await ends(topic)

    monkeypatch.setattr(LogEnds, "of", lambda _self, topic: counted(topic))
    monkeypatch.setattr(world.log, "ends", looked)
    # Another family each: the first bytes of a token are version and user.
    forged = [f"{ana.refresh_token[:16]}{n:04}{ana.refresh_token[20:]}" for n in range(FORGED)]
    refused = await asyncio.gather(*(refusal(refresh(world, token)) for token in forged))
    assert {one.reason for one in refused} == {"REFRESH_TOKEN_INVALID"}
    # One for those who asked before it began, and one for all others.
    assert looks == 2
