"""The feed of the session's user."""

from millrace.client.calls import Calls
from millrace.client.pages import Page, Pages
from millrace.client.session import Session
from social.v1 import feed_pb2 as pb
from social.v1.media_pb2 import MediaItem


class Feed(Calls):
    def feed(
        self, session: Session, *, page_size: int = 0, require_complete: bool = False
    ) -> Pages[MediaItem]:
        """Newest first. `require_complete`: StoreUnavailable rather than a partial page."""

        async def read(page_token: str) -> Page[MediaItem]:
            request = pb.GetFeedRequest(
                page_size=page_size, page_token=page_token, require_complete=require_complete
            )
            page = await self.call(lambda stubs: stubs.feed.GetFeed, request, session)
            return Page(page.items, page.next_page_token, page.stale)

        return Pages(read)
