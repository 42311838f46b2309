"""The rows that the fan-out owes, for the posts of a slice of authors.

Two checks as well: what the first one misses is looked for again when delivery has everything
that was planned by then.
"""

from collections.abc import Callable, Container

from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.log.marks import Marks
from millrace.views import lag
from streams.audit.difference import Difference, at
from streams.audit.events import POLL_S, Ends, Events
from streams.audit.look import Bounds, Stores
from streams.owed_rows import OwedRows, check_owed_rows

FEED, OWED = "feed", "owed rows"
MISSING_MAX = 1_000


async def look_for_owed(
    authors: Container[object], stores: Stores, bounds: Bounds
) -> tuple[int, str, list[Difference]]:
    """How many rows are owed, at which position, and the first `MISSING_MAX` of those that are
    not there.
    """
    position = await _delivered(stores, bounds.wait_s)
    found = await _check(stores, authors.__contains__)
    if not found.missing_count and not found.unplanned_count:
        return found.checked, position, []
    await stores.clock.sleep(bounds.again_s)
    position = await _delivered(stores, bounds.wait_s)
    again = await _check(stores, _of(found, authors))
    return found.checked, position, _differences(again, position)


async def _check(stores: Stores, of_author: Callable[[int], bool]) -> OwedRows:
    return await check_owed_rows(
        stores.log, stores.views, stores.feeds, missing_max=MISSING_MAX, of_author=of_author
    )


def _of(found: OwedRows, authors: Container[object]) -> Callable[[int], bool]:
    """The authors to look at again: all, where it is not known whose rows are missing."""
    if found.unplanned_count or found.missing_count > len(found.missing):
        return authors.__contains__
    return {row.author_id for row in found.missing}.__contains__


async def _delivered(stores: Stores, wait_s: float) -> str:
    """Until all media that are in the log now are planned, and the chunks of that delivered;
    returns the position in words. Raises StoreUnavailable after `wait_s`.
    """
    deadline_s = stores.clock.monotonic_s() + wait_s
    events = Events(stores.log)
    posts = await events.ends(["media"])
    marks = Marks(stores.log)
    try:
        await marks.refresh()
        while any(marks.of(partition).planned < end for (_, partition), end in posts.items()):
            await _wait(stores.clock, deadline_s, "the planner")
            await marks.refresh()
    finally:
        await marks.close()
    chunks = {place: end for place, end in (await events.ends(lag.CHUNKS)).items() if end}
    while await _undelivered(stores, chunks):
        await _wait(stores.clock, deadline_s, "delivery")
    return at(posts, ["media"])


async def _undelivered(stores: Stores, chunks: Ends) -> bool:
    stored = await stores.feeds.positions(lag.DELIVERY, chunks)
    return any(stored.get(place, 0) < end for place, end in chunks.items())


async def _wait(clock: Clock, deadline_s: float, who: str) -> None:
    if clock.monotonic_s() >= deadline_s:
        raise StoreUnavailable(f"{who} is still behind the log")
    await clock.sleep(POLL_S)


def _differences(owed: OwedRows, position: str) -> list[Difference]:
    found = [
        Difference(
            FEED, OWED, row.user_id, f"media {row.media_id} of {row.author_id}", "none", position
        )
        for row in owed.missing
    ]
    found += [
        Difference(FEED, OWED, media_id, "a plan of the post", "none", position)
        for media_id in owed.unplanned
    ]
    return found
