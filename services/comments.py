"""CommentsService: events keyed by the comment's author, whoever writes them; reads of a page."""

import hashlib
from uuid import UUID

from millrace import policy
from millrace.errors import NotFound
from millrace.log.partitioner import key_of
from millrace.log.port import Appended
from millrace.views import comments, media, users
from millrace.views.comments import COMMENTS, COMMENTS_BY_MEDIA
from millrace.views.hydration import comment_facts, comment_items
from services import mentions, presentation
from services.call import Call
from services.creation import create, created_before
from services.page import page_of
from services.parts import Parts
from services.personal_text import sealed
from social.log.v1.comments_pb2 import CommentAdded, CommentDeleted, CommentsEvent, CommentText
from social.v1 import comments_pb2 as pb


class CommentsService:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.views
        self._facts = parts.media_facts

    async def add_comment(self, call: Call, request: pb.AddCommentRequest) -> pb.AddCommentResponse:
        request_id, body = UUID(request.request_id).bytes, _body(request)
        await call.stale(comments.VIEW, media.VIEW, users.VIEW)
        comment_id = await created_before(call, COMMENTS, request_id, body)
        policy.check_media_seen(await self._facts.get(request.media_id))
        if comment_id is None:
            comment_id = await self._add(call, request, request_id, body)
        items = await comment_items(self._store, [comment_id])
        if comment_id not in items:
            raise NotFound("it has been deleted since", reason="COMMENT_NOT_FOUND")
        return pb.AddCommentResponse(comment=presentation.comment(items[comment_id]))

    async def delete_comment(
        self, call: Call, request: pb.DeleteCommentRequest
    ) -> pb.DeleteCommentResponse:
        media_id, comment_id = request.media_id, request.comment_id
        await call.stale(comments.VIEW, media.VIEW, users.VIEW)
        facts = await comment_facts(self._store, comment_id, media_id)
        author_id = policy.check_comment_deleted(
            call.user_id, facts, await self._facts.get(media_id)
        )
        deleted = CommentDeleted(
            comment_id=comment_id,
            media_id=media_id,
            author_id=author_id,
            deleted_by=call.user_id,
            at_ms=self._parts.clock.now_ms(),
        )
        event = CommentsEvent(deleted=deleted)
        appended = await call.append("comments", key_of(author_id), event)
        hidden = await call.hidden_everywhere(comments.VIEW, appended)
        return pb.DeleteCommentResponse(pending=not hidden)

    async def list_comments(
        self, call: Call, request: pb.ListCommentsRequest
    ) -> pb.ListCommentsResponse:
        page = page_of(call, "comments", request.media_id, request.page_size, request.page_token)
        stale = await call.stale(comments.VIEW, media.VIEW, users.VIEW)
        policy.check_media_seen(await self._facts.get(request.media_id))
        edges = await COMMENTS_BY_MEDIA.page(
            self._store, request.media_id, before=page.after, limit=page.limit + 1
        )
        ids = [edge.target for edge in edges[: page.limit]]
        items = await comment_items(self._store, ids)
        return pb.ListCommentsResponse(
            comments=[presentation.comment(items[one]) for one in ids if one in items],
            next_page_token=page.next_token(edges, ids),
            stale=stale,
        )

    async def _add(
        self, call: Call, request: pb.AddCommentRequest, request_id: bytes, body: bytes
    ) -> int:
        author_id = call.user_id
        text = await sealed(self._parts, author_id, CommentText(text=request.text))
        mentioned_ids = await mentions.resolve(self._parts, request.text)

        async def append(comment_id: int) -> Appended:
            added = CommentAdded(
                comment_id=comment_id,
                media_id=request.media_id,
                author_id=author_id,
                at_ms=self._parts.clock.now_ms(),
                request_id=request_id,
                body_sha256=body,
                sealed=text,
                mentioned_ids=mentioned_ids,
            )
            return await call.append("comments", key_of(author_id), CommentsEvent(added=added))

        return await create(call, comments.VIEW, COMMENTS, request_id, body, append)


def _body(request: pb.AddCommentRequest) -> bytes:
    return hashlib.sha256(request.media_id.to_bytes(8, "big") + request.text.encode()).digest()
