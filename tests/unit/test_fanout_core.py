"""Planner and delivery on the twins: whatever crashes, each owed row is there in the end."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.errors import Bug, StoreUnavailable
from millrace.log.codec import decode
from millrace.log.dead import DeadLetters
from millrace.log.marks import Marks, rises
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Record
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.feed_port import FeedRow
from millrace.stores.memory import MemoryStore
from millrace.stores.port import EdgeRow
from millrace.views import follows, media
from social.log.v1.feed_pb2 import FeedChunk, FeedMark
from streams.delivery import Delivery
from streams.owed_rows import check_owed_rows
from streams.planner import LARGE, SMALL, Planner
from streams.stepping_back import NodeWatch
from tests.histories import History, write

PARTITIONS = 2
USERS = range(1, 6)
SMALL_LIMITS = Settings(
    chunk_rows_max=3, follower_page_rows=2, large_author_followers=2, plan_posts_max=3
)

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


class YieldingClock(ManualClock):
    """Time is moved by the history alone."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class World:
    """One planner and one delivery over the twins, driven by hand."""

    def __init__(self) -> None:
        self.clock = YieldingClock()
        self.log = MemoryLog(PARTITIONS, self.clock)
        self.views = MemoryStore()
        self.feeds = MemoryFeedStore()
        self.media: list[tuple[int, int]] = []
        # Edges that the follows view had before the post was written, with the post.
        self.must: set[tuple[EdgeRow, int]] = set()
        self.planning: asyncio.Task[None] | None = None
        self.delivery = self._new_delivery()
        self.reader = self.log.group_reader("delivery", (SMALL, LARGE), self._start)

    async def open(self) -> None:
        for view in (media.VIEW, follows.VIEW):
            partitions = dict.fromkeys(view.topics, PARTITIONS)
            await self.views.open_view(view.schema, partitions, log_id=1)

    def _new_delivery(self) -> Delivery:
        dead = DeadLetters(self.log, "feed", self.clock, ratio_max=0.5, window_events=100)
        return Delivery(self.feeds, dead, self.clock, NodeWatch(silent_s=10))

    async def _start(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return await self.delivery.start_positions(partitions)

    async def write(self, op: tuple) -> None:  # type: ignore[type-arg]
        scratch = History()
        record = write(scratch, op)
        await self.log.append(record.topic, record.key, record.value)

    async def post(self, author: int) -> None:
        number = len(self.media) + 1
        media_id = number * PARTITIONS + partition_of_owner(author, PARTITIONS)
        await self.write(("upload", author, media_id, b"request-%08d" % number))
        self.media.append((author, media_id))
        followers = await follows.FOLLOWS.inverse_page(self.views, author, after=None, limit=99)
        self.must.update({(edge, media_id) for edge in followers})

    async def project(self, view: View, events_max: int) -> int:
        stored = await self.views.positions(view.name)
        applied = 0
        for (topic, partition), at in stored.items():
            records = self.log.after(topic, partition, at.position, events_max)
            changes: list[Change] = []
            for record in records:
                changes += view.project(decode(record))
            if records:
                move = Move(topic, partition, at.position, records[-1].number)
                await self.views.apply(view.schema, Batch(view.name, (move,), changes))
            applied += len(records)
        return applied

    async def plan(self, turns: int) -> None:
        """Let the planner run for some turns of the loop; it goes on where it was."""
        if self.planning is None or self.planning.done():
            self.planning = asyncio.create_task(self._plan())
        for _ in range(turns):
            await asyncio.sleep(0)

    async def _plan(self) -> None:
        planner = Planner(self.log, self.views, self.clock, SMALL_LIMITS, Marks(self.log))
        reader = self.log.group_reader("planner", ("media",), planner.start_positions)
        while True:
            await planner.step(reader, 0)
            await asyncio.sleep(0)

    async def kill_planner(self) -> None:
        if self.planning is not None:
            self.planning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.planning
            self.planning = None

    def kill_delivery(self) -> None:
        self.delivery = self._new_delivery()
        self.reader = self.log.group_reader("delivery", (SMALL, LARGE), self._start)

    async def deliver(self, records_max: int) -> int:
        records = await self.reader.batch(records_max, 0)
        await self.delivery.deliver(records)
        return len(records)

    async def keep(self) -> None:
        if not await self.delivery.keep():
            self.kill_delivery()

    async def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1_000)
            await self.keep()
        if seconds >= 10:
            self.feeds.sync()

    async def apply(self, op: tuple) -> None:  # type: ignore[type-arg]
        match op:
            case ("follow" | "unfollow", _, _):
                await self.write(op)
            case ("post", author):
                await self.post(author)
            case ("delete", index) if self.media:
                author, media_id = self.media[index % len(self.media)]
                await self.write(("delete", author, media_id))
            case ("project", name, events):
                await self.project(media.VIEW if name == "media" else follows.VIEW, events)
            case ("plan", turns):
                await self.plan(turns)
            case ("deliver", records):
                await self.deliver(records)
            case ("again", topic) if self.log.end(topic, 0):
                self.log.duplicate(topic, 0, self.log.end(topic, 0))
            case ("kill planner",):
                await self.kill_planner()
            case ("kill delivery",):
                self.kill_delivery()
            case ("kill node", rows):
                self.feeds.crash(rows)
            case ("catch up",):
                await self.catch_up()
            case ("wait", seconds):
                await self.wait(seconds)

    async def quiet(self) -> None:
        await self.catch_up()
        await self.kill_planner()

    async def catch_up(self) -> None:
        """Until everything has caught up with the log."""
        for view in (media.VIEW, follows.VIEW):
            while await self.project(view, 100):
                pass
        await self.keep()
        while not await self._planned():
            await self.plan(10)
        while await self.deliver(100):
            pass

    async def missing(self) -> list[tuple[EdgeRow, int]]:
        """Of what must be there, by the test's own book-keeping."""
        lost = []
        for edge, media_id in self.must:
            standing = await media.by_id(self.views, [media_id])
            pair = (edge.source, edge.target)
            live = (await follows.FOLLOWS.among(self.views, [pair])).get(pair)
            there = await self.feeds.has_many([(edge.source, media_id)])
            if standing and live == edge and not there:
                lost.append((edge, media_id))
        return lost

    async def _planned(self) -> bool:
        marks = Marks(self.log)
        await marks.refresh()
        ends = await self.log.ends("media")
        return [marks.of(partition).planned for partition in range(PARTITIONS)] == ends


async def _run(history: Sequence[tuple]) -> World:  # type: ignore[type-arg]
    world = World()
    await world.open()
    # Before the first delivery the nodes are on record, as in a worker that has its partitions.
    await world.deliver(1)
    for op in history:
        await world.apply(op)
    await world.quiet()
    return world


@settings(max_examples=150, deadline=None)
@given(operations)
def test_every_owed_row_is_there_in_the_end(history: list[tuple]) -> None:  # type: ignore[type-arg]
    async def scenario() -> None:
        world = await _run(history)
        owed = await check_owed_rows(world.log, world.views, world.feeds)
        assert owed.missing == []
        assert owed.missing_count == 0
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
    world = await _run([("follow", 2, 1), ("project", "follows", 1), ("post", 1)])
    world.feeds.crash(forgotten_rows_max=1)
    owed = await check_owed_rows(world.log, world.views, world.feeds)
    assert (owed.checked, owed.missing_count) == (1, 1)
    assert owed.missing == [(2, world.media[0][1], 1)]


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


def test_a_mark_that_falls_in_any_part_is_void() -> None:
    standing = FeedMark(planned=5, follows_numbers=[3, 4])
    assert rises(None, standing)
    assert rises(standing, FeedMark(planned=5, follows_numbers=[3, 5]))
    assert not rises(standing, FeedMark(planned=4, follows_numbers=[9, 9]))
    assert not rises(standing, FeedMark(planned=9, follows_numbers=[9, 3]))
    assert not rises(standing, FeedMark(planned=9, follows_numbers=[9]))
