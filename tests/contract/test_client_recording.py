"""The client's record_likes through breaks: nothing lost, nothing twice, in order."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from millrace.client import Client, Session
from millrace.errors import OutcomeUnknown, Unauthenticated
from millrace.log.port import NewRecord
from millrace.views.likes import LIKES
from services.call import Call
from services.rpc import Service
from social.v1 import likes_pb2 as pb
from tests.contract.test_media import picture
from tests.cutting import Proxy, cutting
from tests.serving import PASSWORD, World, serving

LIKES_SERVICE = pb.DESCRIPTOR.services_by_name["LikesService"]
GONE = 10**15


class Scene:
    def __init__(self, world: World, proxy: Proxy, client: Client) -> None:
        self.world = world
        self.proxy = proxy
        self.client = client
        self.ben = Session()
        self.items: list[int] = []

    async def set_up(self) -> None:
        ana = await self.client.register("ana", PASSWORD)
        self.ben = await self.client.register("ben", PASSWORD)
        colours = ("teal", "red", "navy", "white")
        self.items = [(await self.client.upload(ana, picture(one))).id for one in colours]

    async def liked(self) -> list[bool]:
        """Whether Ben likes each item; counts are those of the sets."""
        await self.world.process_all()
        sets = [
            [edge.target for edge in await LIKES.page(self.world.store, item, after=None, limit=9)]
            for item in self.items
        ]
        counts = await LIKES.count(self.world.store, self.items)
        assert [counts[item] for item in self.items] == [len(one) for one in sets]
        return [one == [self.ben.user_id] for one in sets]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with (
        serving() as world,
        cutting(world.address) as proxy,
        Client(proxy.address, connections=2, deadline_s=5.0) as client,
    ):
        made = Scene(world, proxy, client)
        await made.set_up()
        yield made


async def test_recorded_likes_are_read_by_the_session(scene: Scene) -> None:
    refused = list[pb.RefusedLike]()
    async with scene.client.record_likes(scene.ben, refused=refused.append) as recording:
        for media_id in (*scene.items, GONE):
            await recording.like(media_id)
        await recording.unlike(scene.items[1])
    assert recording.acknowledged == 6
    assert [(one.sequence, one.code) for one in refused] == [(5, 5)]
    page = await scene.client.likers(scene.ben, scene.items[0]).page()
    assert ([user.id for user in page.items], page.stale) == ([scene.ben.user_id], False)
    assert await scene.liked() == [True, False, True, True]


async def test_cut_connections_lose_nothing_and_double_nothing(scene: Scene) -> None:
    async with scene.client.record_likes(scene.ben, unacknowledged_max=200) as recording:
        for turn in range(1_000):
            item = scene.items[turn % 3]
            await (recording.unlike(item) if turn % 2 else recording.like(item))
            if turn % 250 == 249:
                scene.proxy.cut()
        await recording.like(scene.items[0])
        await recording.unlike(scene.items[1])
        await recording.like(scene.items[2])
    assert recording.acknowledged == 1_003
    assert scene.proxy.cuts == 4
    assert await scene.liked() == [True, False, True, False]
    assert not (await scene.client.likers(scene.ben, scene.items[0]).page()).stale


async def test_a_log_that_fails_now_and_then_loses_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has written a group, after that, and in its middle."""
    write, rounds = scene.world.log.append_many, 0

    async def unsure(topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
        nonlocal rounds
        rounds += 1
        some = list(records)
        if rounds % 3 == 2:
            await write(topic, some[: len(some) * (rounds % 4) // 2])
            raise OutcomeUnknown("10.0.0.7")
        return await write(topic, some)

    monkeypatch.setattr(scene.world.log, "append_many", unsure)
    async with scene.client.record_likes(scene.ben, unacknowledged_max=20) as recording:
        for turn in range(200):
            item = scene.items[turn % 3]
            await (recording.unlike(item) if turn % 2 else recording.like(item))
    assert rounds > 5
    assert recording.acknowledged == 200
    # The last of each item: 198 like, 199 unlike, 197 unlike.
    assert await scene.liked() == [True, False, False, False]


async def test_pauses_longer_than_the_server_s_patience() -> None:
    async with (
        serving(stream_idle_max_s=0.05) as world,
        cutting(world.address) as proxy,
        Client(proxy.address, connections=1, deadline_s=5.0) as client,
    ):
        scene = Scene(world, proxy, client)
        await scene.set_up()
        async with client.record_likes(scene.ben) as recording:
            for item in scene.items:
                await recording.like(item)
                while recording.acknowledged < scene.items.index(item) + 1:
                    await asyncio.sleep(0.001)
                ended = client.connections
                while any(one.outstanding for one in ended._connections):
                    await asyncio.sleep(0.001)
        assert await scene.liked() == [True] * 4
        assert not (await client.likers(scene.ben, scene.items[3]).page()).stale


async def test_the_deadline_counts_from_the_item_not_from_the_pause(scene: Scene) -> None:
    async with scene.client.record_likes(scene.ben) as recording:
        await recording.like(scene.items[0])
        while recording.acknowledged < 1:
            await asyncio.sleep(0.001)
        # As after a long pause on an open stream.
        recording._tries.ends_s = 0.0
        await recording.like(scene.items[1])
        scene.proxy.cut()
    assert await scene.liked() == [True, True, False, False]


class Silent:
    """A LikesService that acknowledges nothing."""

    async def record_likes(
        self, call: Call, requests: AsyncIterator[pb.RecordLikesRequest]
    ) -> AsyncIterator[pb.RecordLikesResponse]:
        async for _ in requests:
            pass
        await asyncio.Event().wait()
        yield pb.RecordLikesResponse()


async def test_a_server_that_acknowledges_nothing_is_not_waited_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("millrace.client.recording.ATTEMPT_S", 0.02)
    monkeypatch.setattr("millrace.client.recording._LOOK_S", 0.01)
    service = Service(LIKES_SERVICE, Silent(), {"RecordLikes": None})
    async with (
        serving([service]) as world,
        Client(world.address, connections=1, deadline_s=0.3) as client,
    ):
        ben = await client.register("ben", PASSWORD)
        recorded = 0
        with pytest.raises(OutcomeUnknown):  # noqa: PT012  it may be raised at either place
            async with client.record_likes(ben, unacknowledged_max=3) as recording:
                for _ in range(100):
                    await recording.like(1)
                    recorded += 1
        assert recorded == 3
        assert client.retries > 1


async def test_an_ended_session_ends_the_recording(scene: Scene) -> None:
    scene.ben.access_token = "x"
    with pytest.raises(Unauthenticated):
        async with scene.client.record_likes(scene.ben) as recording:
            await recording.like(scene.items[0])


async def test_an_error_in_the_body_leaves_at_once(scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  the block is what is tested
        async with scene.client.record_likes(scene.ben) as recording:
            await recording.like(scene.items[0])
            raise ZeroDivisionError
    async with scene.client.record_likes(scene.ben):
        pass
