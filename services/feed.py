"""FeedService: GetFeed by definition. Not yet: WatchFeed."""

from millrace.errors import StoreUnavailable
from millrace.views import comments, follows, likes, media, users
from millrace.views.feed import FeedReader
from services import presentation
from services.call import Call
from services.page import page_of
from services.parts import Parts
from social.v1 import feed_pb2 as pb


class FeedService:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.views
        self._reader = FeedReader(parts.views, parts.feeds)

    async def get_feed(self, call: Call, request: pb.GetFeedRequest) -> pb.GetFeedResponse:
        page = page_of(call, "feed", call.user_id, request.page_size, request.page_token)
        stale = await call.stale(media.VIEW, follows.VIEW, users.VIEW, likes.VIEW, comments.VIEW)
        if stale and request.require_complete:
            raise StoreUnavailable("the views are behind the caller's position")
        # Taken before the read: everything up to these is in the answer.
        positions = await self._store.positions(media.VIEW.name)
        found = await self._reader.page(call.user_id, before=page.after, limit=page.limit)
        return pb.GetFeedResponse(
            items=[presentation.media_item(item) for item in found.items],
            next_page_token=page.token_after(found.next_before),
            stale=stale,
            receipt=pb.Receipt(
                positions=[row.position for _, row in sorted(positions.items())],
                followees_pulled=found.followees,
                complete=True,
            ),
        )
