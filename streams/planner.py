"""The planner: who is owed a row for each post, in log order, as chunks for delivery.

For each media partition that it owns: wait until the media view covers the posts, drop those
that do not stand, write the plan, read the follower lists in pages, write the chunks, then the
mark. A restart goes on after the last mark; what was planned twice is delivered twice, which
changes nothing. Followers all count as active, and all authors are pushed, until the issue
"The feed".

Takes log, store and clock as arguments and does no I/O of its own.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from millrace.clock import Clock
from millrace.errors import PoisonEvent, StoreUnavailable
from millrace.log.codec import decode
from millrace.log.marks import TOPIC as MARKS
from millrace.log.marks import Marks, mark_key
from millrace.log.partitioner import key_of
from millrace.log.port import TRACE_HEADER, GroupReader, Log, Record, TopicPartition
from millrace.observe import logs, metrics
from millrace.settings import Settings
from millrace.stores.port import StoredPosition, ViewStore
from millrace.views import follows, media
from social.log.v1.feed_pb2 import FeedMark, FeedPlan, PlannedPost
from social.log.v1.media_pb2 import MediaUploaded
from streams.chunks import Chunk, ChunkPacker, Post

logger = logs.logger("streams.planner")

SOURCE = "media"
PLANS = "plans"
SMALL = "chunks.small"
LARGE = "chunks.large"

READ_KEYS_MAX = 100
RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0
POLL_MAX_S = 0.1


T = TypeVar("T")


@dataclass(slots=True)
class Planner:
    """One a process; `step` after `step`, by one task."""

    log: Log
    store: ViewStore
    clock: Clock
    settings: Settings
    marks: Marks
    # What each partition has promised: the newest mark, or a plan whose mark is not out yet.
    _promised: dict[int, Sequence[int]] = field(default_factory=dict)
    # Up to where each has its mark. What comes again is not planned again: a plan at newer
    # positions promises more, and the mark would let a restart pass over what was not delivered.
    _marked: dict[int, int] = field(default_factory=dict)

    async def start_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where the marks say to go on. Called when partitions are handed to this process."""
        await self.marks.refresh()
        for _, partition in partitions:
            mark = self.marks.of(partition)
            self._promised[partition] = mark.follows_numbers
            self._marked[partition] = mark.planned
        return {(SOURCE, number): self.marks.of(number).planned for _, number in partitions}

    async def step(self, reader: GroupReader, wait_s: float) -> int:
        """Plan one batch of records; returns how many. Waits out lost stores."""
        share = max(len(reader.assigned), 1)
        records = await reader.batch(self.settings.plan_posts_max * share, wait_s)
        by_partition: defaultdict[int, list[Record]] = defaultdict(list)
        for record in records:
            if record.number > self._marked.get(record.partition, 0):
                by_partition[record.partition].append(record)
        async with asyncio.TaskGroup() as group:
            for partition, of_one in by_partition.items():
                group.create_task(self._plan_until_done(reader, partition, of_one))
        metrics.FEED_PLAN_LAG.set(sum(reader.lag().values()))
        return len(records)

    async def _plan_until_done(
        self, reader: GroupReader, partition: int, records: Sequence[Record]
    ) -> None:
        delay_s = RETRY_FIRST_S
        start, size = 0, self.settings.plan_posts_max
        while start < len(records):
            try:
                await self._plan(reader, partition, records[start : start + size])
                start, delay_s = start + size, RETRY_FIRST_S
            except StoreUnavailable as error:
                logger.warning("waiting", partition=partition, why=error.message)
                await self.clock.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _plan(self, reader: GroupReader, partition: int, records: Sequence[Record]) -> None:
        posts = await self._standing(partition, records)
        numbers = self._promised.get(partition, ())
        if posts:
            # At or above what was promised before.
            numbers = await self._wait(follows.VIEW.name, dict(enumerate(numbers)))
            if (SOURCE, partition) not in reader.assigned:
                # Nor may one who has lost it promise more than its new owner delivers.
                return
            # Who slept may not have heard of it yet; its new owner's marks say so. What he has
            # planned is promised no more: whoever starts after them would not deliver it.
            await self.marks.refresh()
            posts = [post for post in posts if post.number > self.marks.of(partition).planned]
        if posts:
            await self._write_plan(partition, posts, numbers)
            # The plan is a promise as well: it says which edges are owed a row.
            self._promised[partition] = numbers
            rows = await self._write_chunks(partition, posts, numbers)
            _tell(partition, posts, rows)
        if (SOURCE, partition) not in reader.assigned:
            # Its new owner goes on from the last mark; one from here could only confuse it.
            return
        if records[-1].number <= self.marks.of(partition).planned:
            return
        mark = FeedMark(
            partition=partition,
            planned=records[-1].number,
            follows_numbers=numbers,
            delivered=self.marks.of(partition).delivered,
        )
        await self.log.append(MARKS, mark_key(partition), mark.SerializeToString(), partition=0)
        self._marked[partition] = mark.planned

    async def _standing(self, partition: int, records: Sequence[Record]) -> list[Post]:
        """The posts among the records that the media view has, by exactly these events.

        What lost a clash of ids, repeated a request or was deleted meanwhile is not owed.
        """
        posts = list(_posts(records))
        if not posts:
            return []
        needed = {partition: records[-1].number}
        rows: dict[int, media.MediaRow] = {}
        for start in range(0, len(posts), READ_KEYS_MAX):
            some = [post.media_id for post in posts[start : start + READ_KEYS_MAX]]
            read = partial(media.by_id, media_ids=some)
            rows |= await self._read_at(media.VIEW.name, needed, read)
        return [
            post
            for post in posts
            if post.media_id in rows and rows[post.media_id].uploaded_number == post.number
        ]

    async def _read_at(
        self, view: str, needed: Mapping[int, int], read: Callable[[ViewStore], Awaitable[T]]
    ) -> T:
        """What is read where the view is at or above what is needed, and at that very moment: a
        view that is put back and catches up meanwhile may have told nobody.
        """
        while True:
            await self._wait(view, needed)
            stored, found = await self.store.at_one_moment(view, read)
            if self._covers(self._numbers(stored), needed):
                return found

    async def _wait(self, view: str, needed: Mapping[int, int]) -> list[int]:
        """Where a view is in each partition, once that is at or above what is needed."""
        delay_s = self.settings.position_poll_ms / 1000
        while True:
            numbers = self._numbers(await self.store.positions(view))
            if self._covers(numbers, needed):
                return numbers
            await self.clock.sleep(delay_s)
            delay_s = min(delay_s * 2, POLL_MAX_S)

    def _covers(self, numbers: Sequence[int], needed: Mapping[int, int]) -> bool:
        return all(numbers[partition] >= number for partition, number in needed.items())

    def _numbers(self, stored: Mapping[TopicPartition, StoredPosition]) -> list[int]:
        """Of a view of one topic."""
        numbers = [0] * self.log.partitions
        for (_, partition), one in stored.items():
            numbers[partition] = one.position
        return numbers

    async def _write_plan(
        self, partition: int, posts: Sequence[Post], numbers: Sequence[int]
    ) -> None:
        plan = FeedPlan(
            partition=partition,
            posts=[
                PlannedPost(media_id=post.media_id, author_id=post.author_id, number=post.number)
                for post in posts
            ],
            follows_numbers=numbers,
        )
        await self.log.append(
            PLANS, key_of(posts[0].author_id), plan.SerializeToString(), partition=partition
        )

    async def _write_chunks(
        self, partition: int, posts: Sequence[Post], numbers: Sequence[int]
    ) -> int:
        """One follower list, of at least these positions, serves all posts of its author; returns
        the rows.
        """
        needed = dict(enumerate(numbers))
        lanes = _Lanes(self.log, partition, self.settings)
        by_author: defaultdict[int, list[Post]] = defaultdict(list)
        for post in posts:
            by_author[post.author_id].append(post)
        authors, limit = list(by_author), self.settings.follower_page_rows
        waiting: deque[tuple[int, int]] = deque()
        for start in range(0, len(authors), READ_KEYS_MAX):
            some = authors[start : start + READ_KEYS_MAX]
            read = partial(follows.FOLLOWS.inverse_ids, targets=some, limit=limit)
            firsts = await self._read_at(follows.VIEW.name, needed, read)
            for author_id, page in firsts.items():
                lane = LARGE if len(page) >= self._large_followers else SMALL
                for post in by_author[author_id]:
                    await lanes.add(lane, post, page)
                if len(page) >= limit:
                    waiting.append((author_id, page[-1]))
        while waiting:
            # An author with more pages goes to the back of the queue: large ones interleave.
            more = [waiting.popleft() for _ in range(min(len(waiting), self._pages_parallel))]
            for (author_id, _), page in zip(more, await self._pages(more, needed), strict=True):
                for post in by_author[author_id]:
                    await lanes.add(LARGE, post, page)
                if len(page) >= limit:
                    waiting.append((author_id, page[-1]))
        return await lanes.finish()

    @property
    def _pages_parallel(self) -> int:
        return self.settings.follower_pages_parallel

    @property
    def _large_followers(self) -> int:
        return min(self.settings.large_author_followers, self.settings.follower_page_rows)

    async def _pages(
        self, asked: Iterable[tuple[int, int]], needed: Mapping[int, int]
    ) -> list[list[int]]:
        """Follower ids of each (author, after this follower), a page each."""
        limit = self.settings.follower_page_rows
        page = follows.FOLLOWS.inverse_page
        pages = await asyncio.gather(
            *(
                self._read_at(
                    follows.VIEW.name,
                    needed,
                    partial(page, target=author_id, after=after, limit=limit),
                )
                for author_id, after in asked
            )
        )
        return [[edge.source for edge in page] for page in pages]


@dataclass(slots=True)
class _Lanes:
    """Writes the chunks of one plan, a few at a time."""

    log: Log
    partition: int
    settings: Settings
    rows: int = 0
    _packers: dict[str, ChunkPacker] = field(default_factory=dict)
    _full: list[tuple[str, Chunk]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for lane in (SMALL, LARGE):
            self._packers[lane] = ChunkPacker(self.partition, self.settings.chunk_rows_max)

    async def add(self, lane: str, post: Post, follower_ids: Sequence[int]) -> None:
        self._full.extend((lane, chunk) for chunk in self._packers[lane].add(post, follower_ids))
        if len(self._full) >= self.settings.chunks_parallel:
            await self._write()

    async def finish(self) -> int:
        for lane, packer in self._packers.items():
            self._full.extend((lane, chunk) for chunk in packer.rest())
        await self._write()
        return self.rows

    async def _write(self) -> None:
        chunks, self._full = self._full, []
        await asyncio.gather(*(self._append(lane, chunk) for lane, chunk in chunks))

    async def _append(self, lane: str, chunk: Chunk) -> None:
        headers = {TRACE_HEADER: ",".join(chunk.traces).encode()} if chunk.traces else None
        await self.log.append(
            lane,
            key_of(chunk.message.author_ids[0]),
            chunk.message.SerializeToString(),
            partition=self.partition,
            headers=headers,
        )
        self.rows += chunk.rows
        metrics.FEED_ROWS_PLANNED.labels(lane).inc(chunk.rows)


def _posts(records: Iterable[Record]) -> Iterable[Post]:
    for record in records:
        try:
            event = decode(record)
        except PoisonEvent:
            # The view's projector has put it aside as a dead letter; nothing stands by it.
            continue
        message = event.message
        if isinstance(message, MediaUploaded):
            yield Post(message.media_id, message.author_id, event.number, event.trace)


def _tell(partition: int, posts: Sequence[Post], rows: int) -> None:
    """A line for each trace, so that a post is found by its own."""
    for trace in dict.fromkeys(post.trace for post in posts if post.trace):
        logger.info("planned", trace=trace, partition=partition)
    logger.debug("plan", partition=partition, posts=len(posts), rows=rows)
