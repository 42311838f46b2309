"""The feed: media of a user and of those he follows, newest first, without what is deleted.

Source:  media (rows and timelines), follows; `feed_by_user` as delivered by the fan-out
Store:   reads postgres media_by_author and follows, cassandra feed_by_user
Cache:   none yet
Bound:   page of at most 100; at most 7,500 followees
Replay:  not a view of its own: whatever the rows hold, the timelines decide
Stale:   by the lag of media and follows; never older than the caller's position
Not:     trusting rows alone (the warm read of the feed protocol comes with its issue)

Read = skeleton (rows ∪ timelines of all followees ∪ own; merged, unique by id) → hydration →
policy → presentation (in services). This is the protocol's cold read: exact at the positions
of the two views.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.errors import StoreUnavailable
from millrace.stores.feed_port import FeedStore
from millrace.stores.port import ViewStore
from millrace.views import follows
from millrace.views.hydration import MediaItem, media_items
from millrace.views.media import MEDIA_BY_AUTHOR

HYDRATED_MAX = 100


@dataclass(frozen=True, slots=True)
class FeedPage:
    """`next_before` is the id to go on after, None at the end of the feed.

    `followees`: how many are covered, all by pull; `rows_missing`: the materialised rows did
    not answer in time, which takes nothing away since the timelines are complete.
    """

    items: Sequence[MediaItem]
    next_before: int | None
    followees: int
    rows_missing: bool


class FeedReader:
    """Reads feeds by definition from the view store, with the materialised rows beside it."""

    def __init__(self, store: ViewStore, feeds: FeedStore) -> None:
        self._store = store
        self._feeds = feeds

    async def page(self, user_id: int, *, before: int | None, limit: int) -> FeedPage:
        edges = await follows.followees(self._store, user_id)
        owners = [user_id, *(edge.target for edge in edges)]
        pulled, rows = await asyncio.gather(
            MEDIA_BY_AUTHOR.merged_page(self._store, owners, before=before, limit=limit + 1),
            self._rows(user_id, before, limit),
        )
        # The timelines are complete down to here; what a row shows below it comes later.
        floor = pulled[-1].target if len(pulled) > limit else None
        items = await self._merged(
            user_id, [edge.target for edge in pulled], rows, set(owners), floor
        )
        shown = items[:limit]
        return FeedPage(
            items=shown,
            next_before=shown[-1].row.media_id if len(items) > limit else floor,
            followees=len(edges),
            rows_missing=rows is None,
        )

    async def _rows(
        self, user_id: int, before: int | None, limit: int
    ) -> Sequence[tuple[int, int]] | None:
        """Materialised (media_id, author_id); None when they do not answer."""
        try:
            return await self._feeds.page(user_id, before=before, limit=limit)
        except StoreUnavailable:
            return None

    async def _merged(
        self,
        viewer_id: int,
        pulled: Sequence[int],
        rows: Sequence[tuple[int, int]] | None,
        owners: set[int],
        floor: int | None,
    ) -> list[MediaItem]:
        """Rows that a late chunk brought after an unfollow or a delete are filtered here."""
        pushed = [
            media_id
            for media_id, author_id in rows or ()
            if author_id in owners and (floor is None or media_id >= floor)
        ]
        ids = sorted({*pulled, *pushed}, reverse=True)
        items: dict[int, MediaItem] = {}
        for start in range(0, len(ids), HYDRATED_MAX):
            items |= await media_items(self._store, ids[start : start + HYDRATED_MAX], viewer_id)
        return [items[media_id] for media_id in ids if media_id in items]
