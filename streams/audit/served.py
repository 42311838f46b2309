"""What is served: the views' own reads, as the RPCs use them."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from millrace.errors import Bug
from millrace.relations import Edge, Timeline
from millrace.stores.feed_port import FeedStore
from millrace.stores.port import ViewStore
from millrace.views import VIEWS
from millrace.views.feed import FeedReader
from streams.audit.relations import RELATIONS, Relation

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
        edge, inverse = _declared(relation)
        if inverse and isinstance(edge, Edge):
            return await edge.inverse_count(self._views, keys)
        return await edge.count(self._views, keys)

    async def members(self, relation: Relation, key: int) -> AsyncGenerator[int]:
        after: int | None = None
        while True:
            page = await self._page(relation, key, after)
            for member in page:
                yield member
            if len(page) < PAGE_MEMBERS:
                return
            after = page[-1]

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
        for relation in (one for one in RELATIONS if one.of == of):
            edge, inverse = _declared(relation)
            table = edge.table
            async for row in self._views.scan_edges(table):
                yield row.target if inverse else row.source
            if table.inverse_count if inverse else table.count:
                async for key, _ in self._views.scan_counts(table, inverse=inverse):
                    yield key

    async def _page(self, relation: Relation, key: int, after: int | None) -> list[int]:
        edge, inverse = _declared(relation)
        if isinstance(edge, Timeline):
            rows = await edge.page(self._views, key, before=after, limit=PAGE_MEMBERS)
        elif inverse:
            rows = await edge.inverse_page(self._views, key, after=after, limit=PAGE_MEMBERS)
        else:
            rows = await edge.page(self._views, key, after=after, limit=PAGE_MEMBERS)
        return [row.source if inverse else row.target for row in rows]


def _declared(relation: Relation) -> tuple[Edge | Timeline, bool]:
    """What holds it, and whether it is that one's inverse."""
    for edge in (edge for view in VIEWS for edge in view.edges):
        if relation.name == edge.name:
            return edge, False
        if isinstance(edge, Edge) and relation.name == edge.inverse:
            return edge, True
    raise Bug(f"no view holds {relation.name}")
