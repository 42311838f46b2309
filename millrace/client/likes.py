"""Likes, one by one or many over one stream.

After OutcomeUnknown the like may be either way: the write may have been done, and while a server
process still tries to reach the log it may be done later, even after a later write on this edge.
Say again what shall hold, and read it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from millrace.client.calls import Calls, new_request_id
from millrace.client.pages import Page, Pages
from millrace.client.recording import UNACKNOWLEDGED_MAX, Recording
from millrace.client.session import Session
from social.v1 import likes_pb2 as pb
from social.v1.users_pb2 import UserSummary


class Likes(Calls):
    async def like(self, session: Session, media_id: int) -> None:
        request = pb.LikeMediaRequest(request_id=new_request_id(), media_id=media_id)
        await self.call(
            lambda stubs: stubs.likes.LikeMedia, request, session, edge=("like", media_id)
        )

    async def unlike(self, session: Session, media_id: int) -> None:
        request = pb.UnlikeMediaRequest(request_id=new_request_id(), media_id=media_id)
        await self.call(
            lambda stubs: stubs.likes.UnlikeMedia, request, session, edge=("like", media_id)
        )

    def likers(self, session: Session, media_id: int, *, page_size: int = 0) -> Pages[UserSummary]:
        async def read(page_token: str) -> Page[UserSummary]:
            request = pb.ListLikersRequest(
                media_id=media_id, page_size=page_size, page_token=page_token
            )
            page = await self.call(lambda stubs: stubs.likes.ListLikers, request, session)
            return Page(page.users, page.next_page_token, page.stale)

        return Pages(read)

    @asynccontextmanager
    async def record_likes(
        self,
        session: Session,
        *,
        refused: Callable[[pb.RefusedLike], None] | None = None,
        unacknowledged_max: int = UNACKNOWLEDGED_MAX,
    ) -> AsyncIterator[Recording]:
        """Many likes, in order and much faster than one by one; broken connections are taken up.

            async with client.record_likes(session) as recording:
                await recording.like(media_id)

        Left without an error all is acknowledged, and the session reads it. `refused` is called
        for each item that `like` would have refused. Raises OutcomeUnknown when nothing was
        acknowledged for the client's deadline: what lies above `recording.acknowledged` may or
        may not be done. Likes of one item both in here and by `like` are in no order. While it is
        open it takes one of the session's 16 places for writes at once.
        """
        recording = Recording(self, session, refused, unacknowledged_max)
        async with recording:
            yield recording
