"""Planner and delivery on the twins: whatever crashes, each owed row is there in the end."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import Bug, StoreUnavailable
from millrace.log.codec import decode
from millrace.log.marks import Marks, rises
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Record, TopicPartition
from millrace.relations import View
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.feed_port import FeedRow, MinutePosition
from millrace.stores.memory import MemoryStore
from millrace.views import follows, media
from social.log.v1.feed_pb2 import FeedChunk, FeedMark
from streams.delivery import Delivery
from streams.owed_rows import check_owed_rows
from streams.planner import LARGE, SMALL
from tests.fanout_world import PARTITIONS, USERS, World, run
from tests.histories import History, write

T = TypeVar("T")

users = st.sampled_from(USERS)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("follow"), users, users).filter(lambda op: op[1] != op[2]),
        st.tuples(st.just("follow"), users, users).filter(lambda op: op[1] != op[2]),
        st.tuples(st.just("unfollow"), users, users).filter(lambda op: op[1] != op[2]),
        st.tuples(st.just("post"), users),
        st.tuples(st.just("post"), users),
        st.tuples(st.just("delete"), st.integers(0, 9)),
        st.tuples(st.just("project"), st.sampled_from(["media", "follows"]), st.integers(1, 5)),
        st.tuples(st.just("plan"), st.integers(1, 60)),
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("again"), st.sampled_from([SMALL, LARGE])),
        st.tuples(st.just("kill planner")),
        st.tuples(st.just("kill delivery")),
        st.tuples(st.just("kill node"), st.integers(0, 20)),
        st.tuples(st.just("kill node"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.sampled_from([1, 2, 30, 90])),
        st.tuples(st.just("wait"), st.just(1)),
        st.tuples(st.just("catch up")),
        st.tuples(st.just("catch up")),
    ),
    min_size=10,
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(operations)
def test_every_owed_row_is_there_in_the_end(history: list[tuple]) -> None:  # type: ignore[type-arg]
    async def scenario() -> None:
        world = await run(history)
        owed = await check_owed_rows(world.log, world.views, world.feeds)
        assert owed.missing == []
        assert owed.missing_count == 0
        assert owed.unplanned == []
        assert await world.missing() == []

    asyncio.run(scenario())


async def test_a_follow_before_a_post_is_owed_a_row_and_one_after_it_is_not() -> None:
    world = World()
    await world.open()
    await world.write(("follow", 2, 1))
    await world.write(("follow", 3, 1))
    await world.project(follows.VIEW, 10)
    await world.post(1)
    await world.quiet()
    await world.write(("follow", 4, 1))
    await world.quiet()
    media_id = world.media[0][1]
    assert await world.feeds.page(2, limit=5) == [(media_id, 1)]
    assert await world.feeds.page(3, limit=5) == [(media_id, 1)]
    assert await world.feeds.page(4, limit=5) == []
    owed = await check_owed_rows(world.log, world.views, world.feeds)
    assert (owed.checked, owed.missing_count) == (2, 0)


async def test_a_missing_row_is_named() -> None:
    world = await run([("follow", 2, 1), ("project", "follows", 1), ("post", 1)])
    world.feeds.crash(forgotten_rows_max=1)
    owed = await check_owed_rows(world.log, world.views, world.feeds)
    assert (owed.checked, owed.missing_count) == (1, 1)
    assert owed.missing == [(2, world.media[0][1], 1)]


async def test_an_unreadable_plan_is_one_line_and_the_others_are_checked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = await run([("follow", 2, 1), ("project", "follows", 1), ("post", 1)])
    garbage = await world.log.append("plans", b"key", b"\xff\xff")
    owed = await check_owed_rows(world.log, world.views, world.feeds)
    assert (owed.checked, owed.missing_count) == (1, 0)
    (line,) = caplog.records
    assert f"plan {garbage.partition}/{garbage.number} is unreadable" in line.message
    assert line.exc_info is None


async def test_a_post_that_a_mark_passed_without_a_plan_is_named() -> None:
    world = await run([("follow", 2, 1), ("post", 1)])
    partition = partition_of_owner(1, PARTITIONS)
    await world.write(("upload", 1, 99, b"never planned"))
    while await world.project(media.VIEW, 100):
        pass
    assert (await check_owed_rows(world.log, world.views, world.feeds)).unplanned == []
    ahead = FeedMark(partition=partition, planned=world.log.end("media", partition))
    marks = Marks(world.log)
    await marks.refresh()
    ahead.follows_numbers.extend(marks.of(partition).follows_numbers)
    await world.log.append("feed_marks", b"mark", ahead.SerializeToString())
    owed = await check_owed_rows(world.log, world.views, world.feeds)
    assert (owed.unplanned, owed.unplanned_count) == ([99], 1)


@pytest.mark.parametrize("view", [media.VIEW, follows.VIEW])
async def test_a_view_that_is_put_back_while_it_is_read_costs_no_post(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back for a moment only, and nobody had published where it was, so that no epoch tells: by
    the next look its positions are as they were.
    """
    world = World()
    await world.open()
    await world.write(("follow", 2, 1))
    await world.write(("upload", 1, 11, b"request"))
    empty, full = MemoryStore(), world.views
    for one in (media.VIEW, follows.VIEW):
        await empty.open_view(one.schema, dict.fromkeys(one.topics, PARTITIONS), log_id=1)
        await world.project(one, 10)
    usual = full.at_one_moment

    async def read_while_back(name: str, *args: Any) -> Any:
        if name != view.name:
            return await usual(name, *args)
        monkeypatch.undo()
        return await empty.at_one_moment(name, *args)

    monkeypatch.setattr(full, "at_one_moment", read_while_back)
    await world.quiet()
    assert [media_id for media_id, _ in await world.feeds.page(2, limit=5)] == [11]


async def test_a_repeated_request_and_a_deleted_post_are_not_planned() -> None:
    world = World()
    await world.open()
    await world.write(("follow", 2, 1))
    await world.write(("upload", 1, 11, b"request"))
    await world.write(("upload", 1, 13, b"request"))
    await world.write(("upload", 1, 15, b"another"))
    await world.write(("delete", 1, 15))
    await world.quiet()
    assert [media_id for media_id, _ in await world.feeds.page(2, limit=5)] == [11]


async def test_large_authors_have_a_lane_of_their_own() -> None:
    world = World()
    await world.open()
    for follower in (2, 3, 4, 5):
        await world.write(("follow", follower, 1))
    await world.write(("follow", 1, 2))
    await world.project(follows.VIEW, 10)
    await world.post(1)
    await world.post(2)
    await world.quiet()
    assert sum(await world.log.ends(LARGE)) == 2
    assert sum(await world.log.ends(SMALL)) == 1
    assert sum([1 async for _ in world.feeds.scan()]) == 5


async def test_every_page_of_followers_is_planned() -> None:
    world = World()
    await world.open()
    for follower in range(2, 12):
        await world.write(("follow", follower, 1))
    await world.post(1)
    await world.quiet()
    assert {row.user_id async for row in world.feeds.scan()} == set(range(2, 12))


async def test_what_was_promised_is_waited_for() -> None:
    """The follows view is put back to before a follow that an earlier plan has regarded."""
    world = await run([("follow", 2, 1), ("project", "follows", 1), ("post", 1)])
    await world.kill_planner()
    world.views = MemoryStore()
    await world.open()
    await world.post(1)
    while await world.project(media.VIEW, 100):
        pass
    await world.plan(200)
    await world.project(follows.VIEW, 100)
    await world.quiet()
    posts = [media_id for _, media_id in reversed(world.media)]
    assert [media_id for media_id, _ in await world.feeds.page(2, limit=5)] == posts


async def test_what_a_node_forgets_before_its_heart_was_seen_is_delivered_again() -> None:
    world = World()
    await world.open()
    await world.deliver(1)
    await world.write(("follow", 2, 1))
    await world.project(follows.VIEW, 100)
    await world.post(1)
    await world.project(media.VIEW, 100)
    while not sum(await world.log.ends(SMALL)):
        await world.plan(1)
    await world.deliver(10)
    world.feeds.crash(forgotten_rows_max=10)
    assert await world.feeds.page(2, limit=5) == []
    await world.quiet()
    assert await world.feeds.page(2, limit=5) == [(world.media[0][1], 1)]


async def test_chunks_carry_the_traces_of_their_posts() -> None:
    world = World()
    await world.open()
    await world.write(("follow", 2, 1))
    await world.project(follows.VIEW, 10)
    for number, trace in enumerate((b"a" * 32, b"b" * 32)):
        record = write(History(), ("upload", 1, 100 + number, b"request-%d" % number))
        await world.log.append("media", record.key, record.value, headers={"trace": trace})
    await world.quiet()
    partition = partition_of_owner(1, PARTITIONS)
    (chunk,) = world.log.after(SMALL, partition, 0, 10)
    assert decode(chunk).trace == "a" * 32 + "," + "b" * 32


def _chunk(number: int, value: bytes | None = None) -> Record:
    chunk = FeedChunk(media_ids=[number], author_ids=[1], follower_ids=[2])
    return Record(SMALL, 0, number, key_of(1), value or chunk.SerializeToString())


async def test_an_unreadable_chunk_is_put_aside_and_the_others_go_on() -> None:
    world = World()
    await world.delivery.start_positions([(SMALL, 0)])
    uneven = FeedChunk(media_ids=[1, 2], author_ids=[1], follower_ids=[2]).SerializeToString()
    await world.delivery.deliver([_chunk(1), _chunk(2, b"\xff"), _chunk(3, uneven), _chunk(4)])
    assert world.delivery.position(SMALL, 0) == 4
    assert world.log.end("chunks.small.dead", 0) == 2
    assert [media_id for media_id, _ in await world.feeds.page(2, limit=5)] == [4, 1]


async def test_a_record_that_was_skipped_stops_delivery() -> None:
    world = World()
    await world.delivery.start_positions([(SMALL, 0)])
    await world.delivery.deliver([_chunk(1), _chunk(2), _chunk(1)])
    with pytest.raises(Bug):
        await world.delivery.deliver([_chunk(4)])
    await world.delivery.start_positions([(SMALL, 1)])
    with pytest.raises(Bug):
        await world.delivery.deliver([_chunk(2)._replace(partition=1)])


async def test_delivery_waits_for_a_store_that_is_down() -> None:
    world = World()
    await world.delivery.start_positions([(SMALL, 0)])
    world.feeds.up = False
    delivering = asyncio.create_task(world.delivery.deliver([_chunk(1)]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert world.delivery.position(SMALL, 0) == 0
    world.feeds.up = True
    await delivering
    assert world.delivery.position(SMALL, 0) == 1


class SlowStore(MemoryFeedStore):
    """Takes no more than a few rows at once."""

    async def write(self, rows: Sequence[FeedRow]) -> None:
        if len(rows) > 300:
            raise StoreUnavailable("too slow")
        await super().write(rows)


async def test_a_store_that_is_slow_gets_less_at_a_time() -> None:
    world = World()
    world.feeds = SlowStore()
    world.delivery = world._new_delivery()
    await world.delivery.start_positions([(SMALL, 0)])
    users = list(range(1, 5_001))
    chunk = FeedChunk(media_ids=[9] * 5_000, author_ids=[1] * 5_000, follower_ids=users)
    await world.delivery.deliver([_chunk(1, chunk.SerializeToString())])
    assert sum([1 async for _ in world.feeds.scan()]) == 5_000


async def test_a_mark_that_falls_does_not_stand() -> None:
    log = MemoryLog(PARTITIONS)
    for planned in (5, 7, 6):
        mark = FeedMark(partition=1, planned=planned)
        await log.append("feed_marks", b"mark", mark.SerializeToString())
    marks = Marks(log)
    await marks.refresh()
    assert marks.of(1).planned == 7


def test_a_mark_that_falls_in_any_part_is_void() -> None:
    standing = FeedMark(planned=5, follows_numbers=[3, 4])
    assert rises(None, standing)
    assert rises(standing, FeedMark(planned=5, follows_numbers=[3, 5]))
    assert not rises(standing, FeedMark(planned=4, follows_numbers=[9, 9]))
    assert not rises(standing, FeedMark(planned=9, follows_numbers=[9, 3]))
    assert not rises(standing, FeedMark(planned=9, follows_numbers=[9]))


class WatchedStore(MemoryFeedStore):
    """Another process steps back between two reads of this one."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Delivery] = []

    async def positions(self, name: str, partitions: Any) -> dict[TopicPartition, int]:
        return await self._read(super().positions(name, partitions))

    async def history(self, name: str, topic: str, partition: int) -> list[MinutePosition]:
        return await self._read(super().history(name, topic, partition))

    async def _read(self, reading: Coroutine[Any, Any, T]) -> T:
        found = await reading
        if self.meanwhile:
            await self.meanwhile.pop().start_positions([(SMALL, 0)])
        return found


async def test_two_processes_that_step_back_at_once_both_step_back() -> None:
    """Both begin when a node has come back, and hand the partition to each other."""
    world = World()
    world.feeds = feeds = WatchedStore()
    first = world._new_delivery()
    await first.start_positions([(SMALL, 0)])
    await first.deliver([_chunk(1)])
    assert await first.keep()
    feeds.crash(forgotten_rows_max=10)
    one, other = world._new_delivery(), world._new_delivery()
    feeds.meanwhile.append(other)
    assert await one.start_positions([(SMALL, 0)]) == {(SMALL, 0): 0}
    assert await feeds.positions("delivery", [(SMALL, 0)]) == {(SMALL, 0): 0}
