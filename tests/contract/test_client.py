"""The client against a real gRPC server on the memory twins: sessions, positions, retries."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from millrace.client import Attempt, Client, Session, Stubs, new_request_id
from millrace.errors import AlreadyExists, InvalidRequest, OutcomeUnknown, StoreUnavailable
from social.v1 import users_pb2
from tests.contract.test_media import picture
from tests.serving import World, serving

PASSWORD = "correct horse"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    made = Client(world.address, connections=2, deadline_s=5.0)
    yield made
    await made.close()


async def bio_of(client: Client, session: Session) -> str:
    request = users_pb2.GetUsersRequest(user_ids=[session.user_id])
    answer = await client.call(lambda stubs: stubs.users.GetUsers, request, session)
    assert not answer.stale
    return answer.users[0].bio


async def test_a_session_reads_what_it_wrote(client: Client) -> None:
    ana = await client.register("ana", PASSWORD, "Ana")
    update = users_pb2.UpdateProfileRequest(request_id=new_request_id(), bio="hello")
    before = ana.positions
    await client.call(lambda stubs: stubs.users.UpdateProfile, update, ana)
    assert ana.positions != before
    assert len(ana.positions) == 1
    assert await bio_of(client, ana) == "hello"
    again = await client.log_in("ANA", PASSWORD)
    assert again.user_id == ana.user_id


async def test_concurrent_writes_of_a_session_all_count(client: Client) -> None:
    ana, ben = await client.register("ana", PASSWORD), await client.register("ben", PASSWORD)
    items = [await client.upload(ana, picture(colour)) for colour in ("teal", "red", "navy")]
    await asyncio.gather(
        *(client.like(ben, item.id) for item in items * 10),
        client.follow(ben, ana.user_id),
        client.update_profile(ben, bio="I swim"),
    )
    assert 1 <= len(ben.positions) <= 16
    users = await client.get_users(ben, [ben.user_id])
    page = await client.following(ben, ben.user_id).page()
    assert (users.users[0].bio, users.stale, page.stale) == ("I swim", False, False)
    assert [user.id for user in page.items] == [ana.user_id]
    for item in items:
        likers = await client.likers(ben, item.id).page()
        assert ([user.id for user in likers.items], likers.stale) == ([ben.user_id], False)
    await client.unlike(ben, items[0].id)
    assert len(ben.positions) == 1


async def test_tokens_that_expire_soon_are_exchanged_before_a_call(client: Client) -> None:
    ana = await client.register("ana", PASSWORD)
    old = ana.refresh_token
    ana.expires_s = 0.0
    await bio_of(client, ana)
    assert ana.refresh_token != old
    assert ana.expires_s > 0.0


async def test_refusals_are_the_errors_that_the_server_meant(client: Client) -> None:
    await client.register("ana", PASSWORD)
    with pytest.raises(AlreadyExists) as taken:
        await client.register("Ana", PASSWORD)
    assert taken.value.reason == "HANDLE_TAKEN"
    with pytest.raises(InvalidRequest):
        await client.register("a name with blanks", PASSWORD)


def refusal(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")


async def test_what_is_unavailable_is_tried_again_within_the_deadline() -> None:
    client = Client("127.0.0.1:1", connections=1, deadline_s=0.3)
    left = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]

    async def once(attempt: Attempt) -> str:
        assert 0 < attempt.timeout_s <= 0.3
        if left:
            raise refusal(left.pop())
        return "done"

    assert await client.tried_again(once, write=True) == "done"
    assert client.retries == 2
    left += [grpc.StatusCode.UNAVAILABLE] * 1_000
    with pytest.raises(OutcomeUnknown):
        await client.tried_again(once, write=True)
    with pytest.raises(StoreUnavailable):
        await client.tried_again(once, write=False)
    await client.close()


async def test_a_client_that_measures_makes_one_attempt() -> None:
    client = Client("127.0.0.1:1", connections=1, tries_again=False)
    attempts = 0

    async def once(attempt: Attempt) -> str:
        nonlocal attempts
        attempts += 1
        raise refusal(grpc.StatusCode.UNAVAILABLE)

    with pytest.raises(OutcomeUnknown):
        await client.tried_again(once, write=True)
    with pytest.raises(StoreUnavailable):
        await client.tried_again(once, write=False)
    assert (attempts, client.retries) == (2, 0)
    await client.close()


async def test_the_least_busy_connection_takes_the_call() -> None:
    client = Client("127.0.0.1:1", connections=3)
    free, taken = asyncio.Event(), list[Stubs]()

    async def once(attempt: Attempt) -> None:
        taken.append(attempt.stubs)
        await free.wait()

    calls = [asyncio.create_task(client.tried_again(once, write=False)) for _ in range(6)]
    while len(taken) < len(calls):
        await asyncio.sleep(0)
    assert {taken.count(stubs) for stubs in taken} == {2}
    free.set()
    await asyncio.gather(*calls)
    await client.close()


async def test_a_refused_write_is_not_tried_again() -> None:
    client = Client("127.0.0.1:1", connections=1)

    async def once(attempt: Attempt) -> str:
        raise refusal(grpc.StatusCode.ALREADY_EXISTS)

    with pytest.raises(AlreadyExists):
        await client.tried_again(once, write=True)
    assert client.retries == 0
    await client.close()
