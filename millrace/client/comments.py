"""What is said under media items."""

from millrace.client.calls import Calls, new_request_id
from millrace.client.pages import Page, Pages
from millrace.client.session import Session
from social.v1 import comments_pb2 as pb


class Comments(Calls):
    async def add_comment(
        self, session: Session, media_id: int, text: str, *, request_id: str = ""
    ) -> pb.Comment:
        """The same `request_id` adds it once, in another process too."""
        request = pb.AddCommentRequest(
            request_id=request_id or new_request_id(), media_id=media_id, text=text
        )
        answer = await self.call(lambda stubs: stubs.comments.AddComment, request, session)
        return answer.comment

    async def delete_comment(self, session: Session, media_id: int, comment_id: int) -> bool:
        """By its author or the item's. True when it holds everywhere, False when it soon will."""
        request = pb.DeleteCommentRequest(
            request_id=new_request_id(), media_id=media_id, comment_id=comment_id
        )
        answer = await self.call(lambda stubs: stubs.comments.DeleteComment, request, session)
        return not answer.pending

    def comments(self, session: Session, media_id: int, *, page_size: int = 0) -> Pages[pb.Comment]:
        """Newest first."""

        async def read(page_token: str) -> Page[pb.Comment]:
            request = pb.ListCommentsRequest(
                media_id=media_id, page_size=page_size, page_token=page_token
            )
            page = await self.call(lambda stubs: stubs.comments.ListComments, request, session)
            return Page(page.comments, page.next_page_token, page.stale)

        return Pages(read)
