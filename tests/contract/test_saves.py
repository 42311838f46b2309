"""Saves: one's own list, in the order of the items, whatever becomes of them."""

from collections.abc import AsyncIterator

import pytest

from millrace.client import Client
from millrace.errors import NotFound
from social.v1 import saves_pb2 as pb
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


async def test_a_list_is_one_s_own_and_newest_first(client: Client) -> None:
    ana, ben = await client.register("ana", PASSWORD), await client.register("ben", PASSWORD)
    items = [(await client.upload(ana, picture(one))).id for one in ("teal", "red", "navy")]
    for item in (items[1], items[2], items[0], items[1]):
        await client.save(ben, item)
    page = await client.saved(ben).page()
    assert ([one.id for one in page.items], page.stale) == (items[::-1], False)
    assert [one.id async for one in client.saved(ben, page_size=1)] == items[::-1]
    assert (await client.saved(ana).page()).items == []
    await client.unsave(ben, items[1])
    await client.unsave(ben, items[1])
    assert [one.id async for one in client.saved(ben)] == [items[2], items[0]]


async def test_what_is_hidden_is_left_out_and_counted(client: Client, world: World) -> None:
    ana, ben = await client.register("ana", PASSWORD), await client.register("ben", PASSWORD)
    items = [(await client.upload(ana, picture(one))).id for one in ("teal", "red", "navy")]
    for item in items:
        await client.save(ben, item)
    await client.delete_media(ana, items[1])
    await world.process_all()
    assert [one.id async for one in client.saved(ben, page_size=1)] == [items[2], items[0]]
    answer = await client.call(lambda stubs: stubs.saves.ListSaved, pb.ListSavedRequest(), ben)
    assert ([one.id for one in answer.items], answer.saves_count) == ([items[2], items[0]], 3)
    await client.unsave(ben, items[1])
    answer = await client.call(lambda stubs: stubs.saves.ListSaved, pb.ListSavedRequest(), ben)
    assert answer.saves_count == 2
    with pytest.raises(NotFound):
        await client.unsave(ana, items[1])
