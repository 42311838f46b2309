"""One planner and one delivery over the twins, driven step by step."""

import asyncio
import contextlib
from collections.abc import Sequence

from millrace.clock import ManualClock
from millrace.log.codec import decode
from millrace.log.dead import DeadLetters
from millrace.log.marks import Marks
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import partition_of_owner
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.memory import MemoryStore
from millrace.stores.port import EdgeRow
from millrace.views import follows, media
from streams.delivery import Delivery
from streams.planner import LARGE, SMALL, Planner
from streams.stepping_back import NodeWatch
from tests.histories import History, write

PARTITIONS = 2
USERS = range(1, 6)
SMALL_LIMITS = Settings(
    chunk_rows_max=3, follower_page_rows=2, large_author_followers=2, plan_posts_max=3
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


async def run(history: Sequence[tuple]) -> World:  # type: ignore[type-arg]
    world = World()
    await world.open()
    # Before the first delivery the nodes are on record, as in a worker that has its partitions.
    await world.deliver(1)
    for op in history:
        await world.apply(op)
    await world.quiet()
    return world
