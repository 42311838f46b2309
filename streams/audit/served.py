"""What is served: the views' own reads, as the RPCs use them."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from millrace.relations import Edge, Timeline
from millrace.stores.feed_port import FeedStore
from millrace.stores.port import EdgeRow, ViewStore
from millrace.stores.schema import EdgeTable
from millrace.views.comments import COMMENTS_BY_MEDIA
from millrace.views.feed import FeedReader
from millrace.views.follows import FOLLOWS
from millrace.views.likes import LIKES
from millrace.views.media import MEDIA_BY_AUTHOR
from millrace.views.saves import SAVES
from streams.audit.relations import Relation

COUNTS_AT_ONCE = 100
PAGE_MEMBERS = 1_000
PAGE_ITEMS = 100


class Served(Protocol):
    """Every read may raise StoreUnavailable."""

    async def counts(self, relation: Relation, keys: Sequence[int]) -> dict[int, int]:
        """Of at most COUNTS_AT_ONCE keys."""

    def members(self, relation: Relation, key: int) -> AsyncGenerator[int]:
        """All pages, in the order of the pages."""

    def feed(self, user_id: int) -> AsyncGenerator[tuple[int, int]]:
        """(media id, author id), all pages, in the order of the pages."""

    def keys(self, of: str) -> AsyncGenerator[int]:
        """Whatever users or media anything is served for, in no order, some more than once."""


class ServedByViews:
    """Reads the views as services do."""

    def __init__(self, views: ViewStore, feeds: FeedStore) -> None:
        self._views = views
        self._feed = FeedReader(views, feeds)

    async def counts(self, relation: Relation, keys: Sequence[int]) -> dict[int, int]:
        return await _COUNTS[relation.name](self._views, keys)

    async def members(self, relation: Relation, key: int) -> AsyncGenerator[int]:
        page_after, end = _PAGES[relation.name]
        after: int | None = None
        while True:
            page = await page_after(self._views, key, after)
            for row in page:
                yield end(row)
            if len(page) < PAGE_MEMBERS:
                return
            after = end(page[-1])

    async def feed(self, user_id: int) -> AsyncGenerator[tuple[int, int]]:
        before: int | None = None
        while True:
            page = await self._feed.page(user_id, before=before, limit=PAGE_ITEMS)
            for item in page.items:
                yield item.row.media_id, item.row.author_id
            if page.next_before is None:
                return
            before = page.next_before

    async def keys(self, of: str) -> AsyncGenerator[int]:
        for table, inverse in _KEYS[of]:
            async for row in self._views.scan_edges(table):
                yield row.target if inverse else row.source
            if table.inverse_count if inverse else table.count:
                async for key, _ in self._views.scan_counts(table, inverse=inverse):
                    yield key


_Count = Callable[[ViewStore, Sequence[int]], Awaitable[dict[int, int]]]
_Page = Callable[[ViewStore, int, int | None], Awaitable[list[EdgeRow]]]


def _target(row: EdgeRow) -> int:
    return row.target


def _source(row: EdgeRow) -> int:
    return row.source


def _pages(edge: Edge) -> _Page:
    return lambda views, key, after: edge.page(views, key, after=after, limit=PAGE_MEMBERS)


def _inverse(edge: Edge) -> _Page:
    return lambda views, key, after: edge.inverse_page(views, key, after=after, limit=PAGE_MEMBERS)


def _newest(timeline: Timeline) -> _Page:
    return lambda views, key, after: timeline.page(views, key, before=after, limit=PAGE_MEMBERS)


_COUNTS: dict[str, _Count] = {
    "follows": FOLLOWS.count,
    "followers": FOLLOWS.inverse_count,
    "media_by_author": MEDIA_BY_AUTHOR.count,
    "likes": LIKES.count,
    "comments_by_media": COMMENTS_BY_MEDIA.count,
    "saves": SAVES.count,
}
_PAGES: dict[str, tuple[_Page, Callable[[EdgeRow], int]]] = {
    "follows": (_pages(FOLLOWS), _target),
    "followers": (_inverse(FOLLOWS), _source),
    "likes": (_pages(LIKES), _target),
    "likes_by_user": (_inverse(LIKES), _source),
    "media_by_author": (_newest(MEDIA_BY_AUTHOR), _target),
    "comments_by_media": (_newest(COMMENTS_BY_MEDIA), _target),
    "saves": (_pages(SAVES), _target),
}
# Tables whose sources, or by `True` targets, are users or media.
_KEYS: dict[str, tuple[tuple[EdgeTable, bool], ...]] = {
    "users": (
        (FOLLOWS.table, False),
        (FOLLOWS.table, True),
        (LIKES.table, True),
        (MEDIA_BY_AUTHOR.table, False),
        (SAVES.table, False),
    ),
    "media": ((LIKES.table, False), (COMMENTS_BY_MEDIA.table, False)),
}
