"""ChangeHandle: cut off anywhere, at the same time as others, and finished by the task."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from millrace.auth import names
from millrace.stores.changes import Key
from millrace.stores.fold import Row
from millrace.stores.schema import RowTable
from millrace.views import renaming, users
from millrace.views.users import Cited
from social.v1 import users_pb2 as pb
from tests.account_calls import bearer, deactivate, found, log_in, reason, rename
from tests.contract.test_registrations import fail_at, run, task_of
from tests.serving import PASSWORD, Person, World, new_request_id, refusal, serving

APPENDS = 3  # claim, changed handle, freed name


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(apply_wait_s=1.0) as world:
        yield world


async def held(world: World, *handles: str) -> dict[str, int]:
    """Who holds these names, whether he is shown by them or not."""
    keys = {names.name_key(world.parts.keys, handle): handle for handle in handles}
    holders = await users.by_name(world.store, keys)
    return {keys[key]: row.user_id for key, row in holders.items()}


async def shown(world: World, who: Person) -> str:
    await world.process_all()
    return (await users.by_id(world.store, [who.user_id]))[who.user_id].handle


async def register(world: World, handle: str) -> Any:
    return await world.users.Register(_registration(handle))


async def test_a_new_handle_takes_the_place_of_the_old_one(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    await rename(world, ana, "Ana.B")
    assert await found(world, ben.metadata, "ana.b", "ana") == ["Ana.B"]
    assert await found(world, ben.metadata, ids=[ana.user_id]) == ["Ana.B"]
    assert await held(world, "ana", "ana.b") == {"ana.b": ana.user_id}
    assert await reason(log_in(world, "ana")) == "CREDENTIALS_INVALID"
    assert (await log_in(world, "ANA.B")).user_id == ana.user_id


async def test_a_freed_handle_is_anybody_s(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    await rename(world, ana, "ana2")
    await rename(world, ben, "ana")
    cem = await register(world, "ben")
    assert await found(world, ana.metadata, "ana", "ana2", "ben") == ["ana", "ana2", "ben"]
    assert await held(world, "ana", "ana2", "ben") == {
        "ana": ben.user_id,
        "ana2": ana.user_id,
        "ben": cem.user_id,
    }


async def test_there_and_back_again(world: World) -> None:
    ana = await world.register("ana")
    for handle in ("ben", "ana", "ben", "ana"):
        await rename(world, ana, handle)
        assert await shown(world, ana) == handle
    assert await held(world, "ana", "ben") == {"ana": ana.user_id}


async def test_another_case_of_letters_needs_no_claim(world: World) -> None:
    ana = await world.register("ana")
    claims = await world.log.ends("names")
    await rename(world, ana, "ANA")
    assert await shown(world, ana) == "ANA"
    assert await world.log.ends("names") == claims


async def test_the_same_request_again_writes_nothing(world: World) -> None:
    ana, once = await world.register("ana"), new_request_id()
    await rename(world, ana, "ben", once)
    before = [await world.log.ends(topic) for topic in ("names", "users")]
    await rename(world, ana, "ben", once)
    assert [await world.log.ends(topic) for topic in ("names", "users")] == before


async def test_another_body_under_a_request_id_is_refused(world: World) -> None:
    ana, once = await world.register("ana"), new_request_id()
    await rename(world, ana, "ben", once)
    refused = await refusal(rename(world, ana, "BEN", once))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


async def test_a_taken_handle_is_refused_and_leaves_all_as_it_was(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    refused = await refusal(rename(world, ana, "BEN"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "HANDLE_TAKEN")
    assert await held(world, "ana", "ben") == {"ana": ana.user_id, "ben": ben.user_id}
    assert await shown(world, ana) == "ana"


async def test_a_handle_of_who_is_away_cannot_be_had(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    await rename(world, ben, "cem")
    await deactivate(world, bearer(ben.access_token))
    assert await reason(rename(world, ana, "cem")) == "HANDLE_TAKEN"


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("append", range(APPENDS))
@pytest.mark.parametrize("by_task", [False, True])
async def test_a_rename_that_was_cut_off_is_finished(
    world: World, monkeypatch: pytest.MonkeyPatch, append: int, written: bool, by_task: bool
) -> None:
    ana, once = await world.register("ana"), new_request_id()
    with monkeypatch.context() as patched:
        fail_at(world, patched, append, written=written)
        refused = await refusal(rename(world, ana, "ben", once))
        assert refused.code == grpc.StatusCode.UNAVAILABLE
    assert await shown(world, ana) in {"ana", "ben"}
    if by_task:
        await run(world, await task_of(world))
        begun = append > 0 or written
    else:
        await rename(world, ana, "ben", once)
        begun = True
    name = "ben" if begun else "ana"
    assert await shown(world, ana) == name
    assert await held(world, "ana", "ben") == {name: ana.user_id}
    await run(world, await task_of(world))
    assert await held(world, "ana", "ben") == {name: ana.user_id}


@pytest.mark.parametrize("cut", list(itertools.product(range(APPENDS), [False, True])))
async def test_a_rename_after_one_that_was_cut_off_counts_and_leaks_no_name(
    world: World, monkeypatch: pytest.MonkeyPatch, cut: tuple[int, bool]
) -> None:
    append, written = cut
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        fail_at(world, patched, append, written=written)
        await refusal(rename(world, ana, "ben"))
    await world.process_all()
    await rename(world, ana, "cem")
    assert await shown(world, ana) == "cem"
    await run(world, await task_of(world))
    assert await held(world, "ana", "ben", "cem") == {"cem": ana.user_id}
    assert await shown(world, ana) == "cem"
    # A name that was half taken is one's own to take again.
    await rename(world, ana, "ben")
    assert await held(world, "ana", "ben", "cem") == {"ben": ana.user_id}


async def test_renames_at_once_leave_one_name(world: World) -> None:
    ana = await world.register("ana")
    wanted = ["ben", "cem", "dan"]
    await asyncio.gather(*(rename(world, ana, handle) for handle in wanted))
    name = await shown(world, ana)
    assert name in wanted
    await run(world, await task_of(world))
    assert await held(world, "ana", *wanted) == {name: ana.user_id}
    assert await shown(world, ana) == name


async def test_the_same_rename_twice_at_once_is_one(world: World) -> None:
    ana, once = await world.register("ana"), new_request_id()
    await asyncio.gather(*(rename(world, ana, "ben", once) for _ in range(3)))
    assert await shown(world, ana) == "ben"
    assert await held(world, "ana", "ben") == {"ben": ana.user_id}


async def test_of_many_who_want_a_freed_name_one_has_it(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    await rename(world, ana, "cem")
    answers = await asyncio.gather(
        rename(world, ben, "ana"),
        rename(world, ana, "ana"),
        register(world, "ana"),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    await world.process_all()
    await run(world, await task_of(world))
    kept = await held(world, "ana", "ben", "cem")
    assert "ana" in kept
    for who in (ana, ben):
        assert kept[await shown(world, who)] == who.user_id
        assert sum(holder == who.user_id for holder in kept.values()) == 1


async def test_the_task_leaves_the_secrets_of_who_lost_a_rename(world: World) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    both = await asyncio.gather(
        *(rename(world, who, "cem") for who in (ana, ben)), return_exceptions=True
    )
    assert sum(isinstance(answer, BaseException) for answer in both) == 1
    await run(world, await task_of(world))
    kept = await held(world, "ana", "ben", "cem")
    assert sorted(kept.values()) == sorted({ana.user_id, ben.user_id})
    for handle, user_id in kept.items():
        assert (await log_in(world, handle)).user_id == user_id


async def test_a_loser_is_forgotten_though_the_winner_has_moved_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His claim lost against a name that is free by now: nobody is there to complete."""
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        # Data key, password and a claim that comes second; what takes them away is cut off.
        patched.setattr(users, "by_name", _nobody)
        fail_at(world, patched, 2, written=True)
        await refusal(world.users.Register(_registration("ana")))
    await rename(world, ana, "ben")
    await world.process_all()
    await run(world, await task_of(world))
    assert list(await users.by_id(world.store, range(1, 10))) == [ana.user_id]
    assert await world.parts.data_keys.of(ana.user_id + 1) is None
    assert await world.parts.data_keys.of(ana.user_id) is not None


async def _nobody(*_: Any) -> dict[bytes, Any]:
    return {}


def _registration(handle: str) -> pb.RegisterRequest:
    return pb.RegisterRequest(request_id=new_request_id(), handle=handle, password=PASSWORD)


async def test_a_late_changed_handle_changes_nothing(world: World) -> None:
    """An append that was given up may still reach the log, after a rename that followed."""
    ana = await world.register("ana")
    row = (await users.by_id(world.store, [ana.user_id]))[ana.user_id]
    await rename(world, ana, "ben")
    key = names.name_key(world.parts.keys, "cem")
    data_key = await world.parts.data_keys.of(ana.user_id)
    assert data_key is not None
    late = renaming.handle_changed(
        ana.user_id,
        Cited(key, 7),
        row.cites,
        renaming.seal_handle(data_key, ana.user_id, "cem"),
        at_ms=1,
    )
    await world.log.append("users", ana.user_id.to_bytes(8, "big"), late.SerializeToString())
    assert await shown(world, ana) == "ben"


def pause_at(
    world: World, patched: pytest.MonkeyPatch, append: int
) -> tuple[asyncio.Event, asyncio.Event]:
    """The append of this number waits: the first event says that it does, the second ends it."""
    right, calls = world.log.append, 0
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def pausing(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == append + 1:
            waits.set()
            await goes_on.wait()
        return await right(*arguments, **options)

    patched.setattr(world.log, "append", pausing)
    return waits, goes_on


@pytest.mark.parametrize("second", ["cem", "ben"])
@pytest.mark.parametrize("append", range(APPENDS))
async def test_a_rename_between_the_steps_of_another_leaves_one_name_shown(
    world: World, monkeypatch: pytest.MonkeyPatch, append: int, second: str
) -> None:
    ana = await world.register("ana")
    waits, goes_on = pause_at(world, monkeypatch, append)
    first = asyncio.create_task(_awaited(rename(world, ana, "ben")))
    await waits.wait()
    await rename(world, ana, second)
    assert await shown(world, ana) == second
    goes_on.set()
    assert await first == ""
    name = await shown(world, ana)
    assert name == second or append == 0
    await run(world, await task_of(world))
    assert await held(world, "ana", "ben", "cem") == {name: ana.user_id}
    assert await shown(world, ana) == name


async def test_a_rename_between_the_reads_of_a_user_leaves_him_no_moment_without_a_handle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = await world.register("ana"), await world.register("ben")
    right = world.store.get_many
    renamed: list[bool] = []

    async def slow(table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
        rows = await right(table, keys)
        if table == users.USERS.table and (ana.user_id,) in keys and not renamed:
            renamed.append(True)
            await rename(world, ana, "cem")
        return rows

    monkeypatch.setattr(world.store, "get_many", slow)
    assert await found(world, ben.metadata, ids=[ana.user_id]) == ["cem"]
    assert renamed


@pytest.mark.parametrize("append", range(APPENDS))
async def test_a_registration_between_the_steps_of_a_rename(
    world: World, monkeypatch: pytest.MonkeyPatch, append: int
) -> None:
    """The old name is taken until it is freed, the new one from its claim on."""
    ana = await world.register("ana")
    waits, goes_on = pause_at(world, monkeypatch, append)
    first = asyncio.create_task(_awaited(rename(world, ana, "ben")))
    await waits.wait()
    assert await _awaited(register(world, "ana")) == "HANDLE_TAKEN"
    taken = await _awaited(register(world, "ben"))
    assert taken == ("HANDLE_TAKEN" if append else "")
    goes_on.set()
    assert await first == ("" if append else "HANDLE_TAKEN")
    assert await shown(world, ana) == ("ben" if append else "ana")
    assert await _awaited(register(world, "ana")) == ("" if append else "HANDLE_TAKEN")


async def _awaited(call: Any) -> str:
    """Why it was refused; empty when it was not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return "HANDLE_TAKEN" if error.code() == grpc.StatusCode.ALREADY_EXISTS else "another"
    return ""
