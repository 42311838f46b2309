"""The check that each owed row is there.

A plan names its posts and the positions of the follows view that it used. Whoever followed the
author by then, and still does by the same edge, is owed a row for each of them that stands. And
each post that stands at or below its partition's mark is owed a plan. Call it when the planner
and delivery have caught up.

Takes log, views and feeds as arguments and does no I/O of its own.
"""

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from millrace.log.marks import Marks
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import ReadingLog, Record
from millrace.stores.feed_port import FeedRow, RowStore
from millrace.stores.port import ViewStore
from millrace.views import follows, media
from social.log.v1.feed_pb2 import FeedPlan

logger = logging.getLogger(__name__)

PLANS = "plans"
READ_RECORDS_MAX = 500
READ_WAIT_S = 1.0
FOLLOWERS_READ_MAX = 5_000
PAIRS_AT_ONCE_MAX = 100_000


@dataclass(slots=True)
class OwedRows:
    """`checked`: rows that are owed; `missing`: the first of those that are not there;
    `unplanned`: the first media ids that a mark has passed and no plan names.
    """

    checked: int = 0
    missing_count: int = 0
    missing: list[FeedRow] = field(default_factory=list)
    unplanned_count: int = 0
    unplanned: list[int] = field(default_factory=list)

    def add(self, missing: Sequence[FeedRow], checked: int, missing_max: int) -> None:
        self.checked += checked
        self.missing_count += len(missing)
        self.missing += missing[: missing_max - len(self.missing)]

    def add_unplanned(self, media_id: int, missing_max: int) -> None:
        self.unplanned_count += 1
        if len(self.unplanned) < missing_max:
            self.unplanned.append(media_id)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A post as its last plan named it; what was planned again counts by the last."""

    media_id: int
    number: int
    follows_numbers: tuple[int, ...]


@dataclass(slots=True)
class _Plans:
    """`posts` by media id. Plans name all posts of a partition with numbers from `first` up to
    `last`, as far as they stood.
    """

    posts: dict[int, _Planned] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def owes(self, partition: int, number: int) -> bool:
        return self.first.get(partition, 0) <= number <= self.last[partition]


def everybody(_author_id: int) -> bool:
    return True


async def check_owed_rows(
    log: ReadingLog,
    views: ViewStore,
    feeds: RowStore,
    *,
    missing_max: int = 100,
    of_author: Callable[[int], bool] = everybody,
) -> OwedRows:
    """Reads all plans that the log keeps. Memory: one entry a planned post `of_author`."""
    plans = await _read_plans(log, of_author)
    owed = OwedRows()
    by_author: defaultdict[int, list[_Planned]] = defaultdict(list)
    async for row in media.scan(views):
        if not of_author(row.author_id):
            continue
        planned = plans.posts.get(row.media_id)
        if planned is not None and planned.number == row.uploaded_number:
            by_author[row.author_id].append(planned)
        elif plans.owes(partition_of_owner(row.author_id, log.partitions), row.uploaded_number):
            owed.add_unplanned(row.media_id, missing_max)
    asked: list[FeedRow] = []
    for author_id, posts in by_author.items():
        async for owed_row in _owed(log, views, author_id, posts):
            asked.append(owed_row)
            if len(asked) >= PAIRS_AT_ONCE_MAX:
                await _look(owed, feeds, asked, missing_max)
                asked = []
    await _look(owed, feeds, asked, missing_max)
    return owed


async def _read_plans(log: ReadingLog, of_author: Callable[[int], bool]) -> _Plans:
    """The marks first: what they have passed is in the plans that are read after them."""
    found = _Plans()
    marks = Marks(log)
    try:
        await marks.refresh()
    finally:
        await marks.close()
    found.last = {one: marks.of(one).planned for one in range(log.partitions)}
    # Where even the last plan is kept no longer, nothing is known of any post.
    unread = {one for one, end in enumerate(await log.ends(PLANS)) if end}
    found.first = {one: found.last[one] + 1 for one in unread}
    async for record, plan in _plans(log):
        if record.partition in unread:
            unread.remove(record.partition)
            found.first[record.partition] = 0 if record.number == 1 else plan.posts[0].number
        numbers = tuple(plan.follows_numbers)
        for post in plan.posts:
            if of_author(post.author_id):
                found.posts[post.media_id] = _Planned(post.media_id, post.number, numbers)
    return found


async def _look(owed: OwedRows, feeds: RowStore, rows: Sequence[FeedRow], missing_max: int) -> None:
    """Many at once, since the store asks once for all rows of a feed."""
    there = await feeds.has_many([(row.user_id, row.media_id) for row in rows])
    missing = [row for row in rows if (row.user_id, row.media_id) not in there]
    owed.add(missing, len(rows), missing_max)


async def _owed(
    log: ReadingLog, views: ViewStore, author_id: int, posts: Sequence[_Planned]
) -> AsyncIterator[FeedRow]:
    after: int | None = None
    while True:
        page = await follows.FOLLOWS.inverse_page(
            views, author_id, after=after, limit=FOLLOWERS_READ_MAX
        )
        for edge in page:
            partition = partition_of_owner(edge.source, log.partitions)
            for post in posts:
                if edge.version <= post.follows_numbers[partition]:
                    yield FeedRow(edge.source, post.media_id, author_id)
        if len(page) < FOLLOWERS_READ_MAX:
            return
        after = page[-1].source


async def _plans(log: ReadingLog) -> AsyncIterator[tuple[Record, FeedPlan]]:
    ends = {
        (PLANS, partition): end for partition, end in enumerate(await log.ends(PLANS)) if end > 0
    }
    if not ends:
        return
    reader = log.reader(dict.fromkeys(ends, 0))
    try:
        while ends:
            records = await reader.batch(READ_RECORDS_MAX, READ_WAIT_S)
            if not records:
                # The end may be a record that is kept no longer.
                ahead = reader.lag()
                ends = {at: end for at, end in ends.items() if ahead.get(at, 1) > 0}
            for record in records:
                if record.number >= ends.get((PLANS, record.partition), 0):
                    ends.pop((PLANS, record.partition), None)
                try:
                    yield record, FeedPlan.FromString(record.value or b"")
                except DecodeError:
                    logger.warning("plan %d/%d is unreadable", record.partition, record.number)
    finally:
        await reader.close()
