"""The fan-out of one post, told: mark, plans, chunks, delivery, and the rows that are owed.

Bounded for authors of any size: chunks of a plan are looked for between this plan and the next
one, at most `CHUNKS_READ_MAX` of a lane, and rows of at most `FOLLOWERS_LOOKED_AT_MAX` followers.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice

from google.protobuf.message import DecodeError

from millrace.log.codec import Event
from millrace.log.event_id import EventId, id_of
from millrace.log.marks import Marks
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import Log
from millrace.log.reading import position_before, records_after
from millrace.stores.port import EdgeRow
from millrace.views import follows, media
from millrace.views.lag import CHUNKS, DELIVERY, Stores
from social.log.v1.feed_pb2 import FeedChunk, FeedPlan

PLANS = "plans"
CHUNKS_READ_MAX = 20_000
FOLLOWERS_LOOKED_AT_MAX = 10_000
IDS_SHOWN_MAX = 5
_PAGE_ROWS = 5_000
# The broker's clock may step back a little.
_EARLIER_MS = 1_000


@dataclass
class _Plan:
    """The last plan that names the post. `until_ms`: when the next one of its partition came."""

    id: EventId
    at_ms: int
    follows_numbers: tuple[int, ...]
    until_ms: int = 0


async def fan_out(stores: Stores, event: Event, media_id: int) -> AsyncIterator[str]:
    """`event` is the MediaUploaded of this item."""
    row = (await media.by_id(stores.views, [media_id])).get(media_id)
    if row is None or row.uploaded_number != event.number:
        yield "Nobody is owed a row: the post does not stand by this event."
    yield await _mark(stores.log, event)
    plans = await _plans(stores.log, event, media_id)
    if not plans:
        yield "No plan that the log keeps names the post."
        return
    plan = plans[-1]
    shown = ", ".join(str(one.id) for one in plans[-IDS_SHOWN_MAX:])
    yield f"{len(plans)} plan(s) name it, the last ones: {shown}."
    for lane in CHUNKS:
        yield await _chunks(stores, lane, event, plan, media_id)
    if row is not None and row.uploaded_number == event.number:
        async for line in _rows(stores, row, plan):
            yield line


async def _mark(log: Log, event: Event) -> str:
    marks = Marks(log)
    try:
        await marks.refresh()
    finally:
        await marks.close()
    planned = marks.of(event.partition).planned
    behind = event.number - planned
    there = "has passed it" if behind <= 0 else f"is {behind:,} records before it"
    return f"The planner's mark of partition {event.partition} is {planned}: it {there}."


async def _plans(log: Log, event: Event, media_id: int) -> list[_Plan]:
    """Of this very event: one that lost a clash of ids has the same media id."""
    place = (PLANS, event.partition)
    start = await position_before(log, place, event.appended_ms - _EARLIER_MS)
    found: list[_Plan] = []
    async for record in records_after(log, {place: start}):
        try:
            plan = FeedPlan.FromString(record.value or b"")
        except DecodeError:
            continue
        if found and not found[-1].until_ms:
            found[-1].until_ms = record.appended_ms
        if any((post.media_id, post.number) == (media_id, event.number) for post in plan.posts):
            found.append(_Plan(id_of(record), record.appended_ms, tuple(plan.follows_numbers)))
    return found


async def _chunks(stores: Stores, lane: str, event: Event, plan: _Plan, media_id: int) -> str:
    place = (lane, event.partition)
    position = (await stores.feeds.positions(DELIVERY, [place])).get(place, 0)
    start = await position_before(stores.log, place, plan.at_ms - _EARLIER_MS)
    read, rows, numbers = 0, 0, []
    async with aclosing(records_after(stores.log, {place: start})) as records:  # type: ignore[type-var]
        async for record in records:
            read += 1
            late = plan.until_ms and record.appended_ms > plan.until_ms + _EARLIER_MS
            if late or read > CHUNKS_READ_MAX:
                break
            try:
                mine = list(FeedChunk.FromString(record.value or b"").media_ids).count(media_id)
            except DecodeError:
                continue
            if mine:
                rows += mine
                numbers.append(record.number)
    if not numbers:
        return f"{lane}: no chunk has a row of it; delivery's position is {position}."
    more = f" among the first {CHUNKS_READ_MAX:,}" if read > CHUNKS_READ_MAX else ""
    done = sum(number <= position for number in numbers)
    shown = ", ".join(str(EventId(*place, number)) for number in numbers[:IDS_SHOWN_MAX])
    dots = ", …" if len(numbers) > IDS_SHOWN_MAX else ""
    return (
        f"{lane}: {len(numbers):,} chunk(s){more} with {rows:,} rows: {shown}{dots}; "
        f"delivery's position is {position}: {done:,} are written."
    )


async def _rows(stores: Stores, row: media.MediaRow, plan: _Plan) -> AsyncIterator[str]:
    """A follower is owed a row when the plan's look at the follows view had his edge."""
    followers = (await follows.FOLLOWS.inverse_count(stores.views, [row.author_id]))[row.author_id]
    looked_at = owed = 0
    missing: list[int] = []
    async for page in _followers(stores, row.author_id):
        looked_at += len(page)
        partitions = stores.log.partitions
        pairs = [
            (edge.source, row.media_id)
            for edge in page
            if edge.version <= plan.follows_numbers[partition_of_owner(edge.source, partitions)]
        ]
        there = await stores.feeds.has_many(pairs)
        owed += len(pairs)
        missing += [user for user, media_id in pairs if (user, media_id) not in there]
    of = "all" if looked_at >= followers else f"the first {looked_at:,} of"
    yield (
        f"Of {of} {followers:,} followers now, {owed:,} are owed a row by the last plan: "
        f"{owed - len(missing):,} have it, {len(missing):,} do not."
    )
    if missing:
        yield f"  without it: {', '.join(map(str, islice(missing, IDS_SHOWN_MAX)))}"


async def _followers(stores: Stores, author_id: int) -> AsyncIterator[list[EdgeRow]]:
    after, looked_at = None, 0
    while looked_at < FOLLOWERS_LOOKED_AT_MAX:
        page = await follows.FOLLOWS.inverse_page(
            stores.views, author_id, after=after, limit=_PAGE_ROWS
        )
        yield page
        if len(page) < _PAGE_ROWS:
            return
        after, looked_at = page[-1].source, looked_at + len(page)
