"""A registration that is cut off anywhere is finished by a retry or by the completing task."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence

import grpc
import pytest

from millrace.errors import OutcomeUnknown, StoreUnavailable
from millrace.log.port import Appended
from millrace.stores.changes import Key
from millrace.stores.fold import Row
from millrace.stores.schema import RowTable
from millrace.views import users, vault
from social.log.v1.vault_pb2 import VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD
from social.v1 import users_pb2 as pb
from streams.registrations import SCHEMA, Registrations
from tests.serving import PASSWORD, World, refusal, serving

APPENDS = 5  # data key, password, claim, UserRegistered, session's family
CLAIMED, REGISTERED = 2, 3


def request(handle: str = "ana") -> pb.RegisterRequest:
    return pb.RegisterRequest(
        request_id=str(uuid.uuid4()), handle=handle, password=PASSWORD, display_name="Ana"
    )


def fail_at(world: World, monkeypatch: pytest.MonkeyPatch, call: int, *, written: bool) -> None:
    """The append number `call` of a service is not acknowledged, and all later ones neither."""
    append, calls = world.log.append, 0

    async def failing(
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Appended:
        nonlocal calls
        if topic == "control":
            return await append(topic, key, value, partition=partition)
        calls += 1
        if calls <= call or (calls == call + 1 and written):
            appended = await append(topic, key, value, partition=partition, headers=headers)
            if calls <= call:
                return appended
        raise OutcomeUnknown("cut off")

    monkeypatch.setattr(world.log, "append", failing)


async def task_of(world: World, after_s: float = 0.0) -> Registrations:
    changed = {"registration_complete_after_s": after_s}
    settings = world.parts.settings.model_copy(update=changed)
    task = Registrations(world.store, world.log, world.parts.clock, settings)
    await task.open(world.parts.control.identity.log_id)
    return task


async def run(world: World, task: Registrations) -> int:
    """Take all claims that there are; returns how many."""
    partitions = [("names", partition) for partition in range(world.log.partitions)]
    reader = world.log.reader(await task.start_positions(partitions))
    taken = 0
    while step := await task.step(reader, wait_s=0.0):
        taken += step
    await world.process_all()
    return taken


async def secrets_of(world: World, user_ids: range) -> set[int]:
    keys = [
        (user_id, kind, b"")
        for user_id in user_ids
        for kind in (VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD)
    ]
    return {user_id for user_id, _, _ in await vault.boxes(world.store, keys)}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("call", range(APPENDS))
async def test_a_retry_finishes_what_was_cut_off_anywhere(
    monkeypatch: pytest.MonkeyPatch, call: int, written: bool
) -> None:
    async with serving() as world:
        asked = request()
        with monkeypatch.context() as patched:
            fail_at(world, patched, call, written=written)
            refused = await refusal(world.users.Register(asked))
            assert refused.code == grpc.StatusCode.UNAVAILABLE
        await world.process_all()
        answer = await world.users.Register(asked)
        await world.process_all()
        rows = await users.by_id(world.store, range(1, 10))
        assert list(rows) == [answer.user_id]
        assert (rows[answer.user_id].handle, rows[answer.user_id].display_name) == ("ana", "Ana")
        login = await world.users.LogIn(pb.LogInRequest(handle="ana", password=PASSWORD))
        assert login.user_id == answer.user_id


async def test_the_task_finishes_what_no_client_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as world:
        with monkeypatch.context() as patched:
            fail_at(world, patched, REGISTERED, written=False)
            await refusal(world.users.Register(request()))
        await world.process_all()
        assert not await users.by_id(world.store, range(1, 10))
        assert await run(world, await task_of(world)) == 1
        (row,) = (await users.by_id(world.store, range(1, 10))).values()
        assert (row.handle, row.display_name) == ("ana", "Ana")
        login = await world.users.LogIn(pb.LogInRequest(handle="ana", password=PASSWORD))
        assert login.user_id == row.user_id


async def test_the_task_leaves_alone_what_is_complete_and_what_is_young() -> None:
    async with serving() as world:
        for handle in ("ana", "ben", "cem"):
            await world.register(handle)
        before = await world.log.ends("users")
        task = await task_of(world, after_s=0.05)
        assert await run(world, task) == 3
        assert await run(world, await task_of(world)) == 0
        assert await world.log.ends("users") == before
        assert world.parts.clock.now_ms() >= 50


async def test_the_task_ends_the_secrets_of_a_claim_that_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        await world.hold(users.VIEW)
        for _ in range(3):
            with monkeypatch.context() as patched:
                fail_at(world, patched, CLAIMED, written=True)
                await refusal(world.users.Register(request()))
        world.release(users.VIEW)
        await world.process_all()
        tried = range(1, 10)
        assert len(await secrets_of(world, tried)) == 3
        await run(world, await task_of(world))
        (row,) = (await users.by_id(world.store, tried)).values()
        assert await secrets_of(world, tried) == {row.user_id}


async def test_the_task_waits_until_the_view_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as world:
        await world.hold(users.VIEW)
        with monkeypatch.context() as patched:
            fail_at(world, patched, CLAIMED, written=True)
            await refusal(world.users.Register(request()))
        running = asyncio.create_task(run(world, await task_of(world)))
        for _ in range(20):
            await asyncio.sleep(0)
        world.release(users.VIEW)
        assert await running == 1
        (row,) = (await users.by_id(world.store, range(1, 10))).values()
        assert row.handle == "ana"


async def test_two_tasks_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as world:
        with monkeypatch.context() as patched:
            fail_at(world, patched, REGISTERED, written=False)
            await refusal(world.users.Register(request()))
        await world.process_all()
        first, second = await task_of(world), await task_of(world)
        partitions = [("names", partition) for partition in range(world.log.partitions)]
        reader = world.log.reader(await first.start_positions(partitions))
        await run(world, second)
        assert await first.step(reader, wait_s=0.0) == 1
        assert await first.step(reader, wait_s=0.0) == 0
        await world.process_all()
        assert len(await users.by_id(world.store, range(1, 10))) == 1
        stored = await world.store.positions(SCHEMA.view)
        assert first.at == {key: row.position for key, row in stored.items()}


async def test_no_secrets_are_ended_by_a_view_that_went_back_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment: the name is another's, who gave it up later, and its user is not there yet."""
    async with serving() as world:
        await world.register("ana")
        task, right = await task_of(world), world.store.get_many

        async def earlier(table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
            rows = await right(table, keys)
            if table != users.USERS.table:
                return {key: Row({**row.values, "user_id": 7}, 1) for key, row in rows.items()}
            monkeypatch.setattr(world.store, "get_many", right)
            await world.store.raise_epoch(users.VIEW.name)
            return {}

        monkeypatch.setattr(world.store, "get_many", earlier)
        with pytest.raises(StoreUnavailable):
            await run(world, task)
        await world.process_all()
        assert await secrets_of(world, range(1, 10)) == {1}
        assert await run(world, task) == 1
        assert await secrets_of(world, range(1, 10)) == {1}


async def test_no_claim_is_passed_over_on_the_word_of_a_view_that_went_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment: the view knows nothing of the name, as if the claim were a dead letter."""
    async with serving() as world:
        with monkeypatch.context() as patched:
            fail_at(world, patched, REGISTERED, written=False)
            await refusal(world.users.Register(request()))
        await world.process_all()
        task, right = await task_of(world), world.store.get_many

        async def earlier(table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
            monkeypatch.setattr(world.store, "get_many", right)
            await world.store.raise_epoch(users.VIEW.name)
            return {}

        monkeypatch.setattr(world.store, "get_many", earlier)
        with pytest.raises(StoreUnavailable):
            await run(world, task)
        assert await run(world, task) == 1
        await world.process_all()
        assert len(await users.by_id(world.store, range(1, 10))) == 1


async def test_a_poisoned_claim_is_passed_by() -> None:
    async with serving() as world:
        await world.log.append("names", b"k" * 32, b"\xff\xff")
        await world.register("ana")
        assert await run(world, await task_of(world)) == 2
