"""A list that the server gives in pages.

async for user in client.likers(session, media_id): …       all of it, page by page
page = await client.feed(session, page_size=10).page()       one page, by its token
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`stale`: may be behind the session's own writes. The last page has no `next_page_token`; a
    page may be short, or empty, and not be the last.
    """

    items: Sequence[T]
    next_page_token: str
    stale: bool


class Pages(Generic[T]):
    """`read` answers the page of a token, the first one for an empty token."""

    def __init__(self, read: Callable[[str], Awaitable[Page[T]]]) -> None:
        self._read = read

    async def page(self, page_token: str = "") -> Page[T]:
        return await self._read(page_token)

    async def by_page(self, page_token: str = "") -> AsyncIterator[Page[T]]:
        while True:
            page = await self._read(page_token)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.by_page():
            for item in page.items:
                yield item
