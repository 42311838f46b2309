"""LikesService: one event a like, keyed by the liker; reads of who likes an item."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from millrace import policy
from millrace.log.partitioner import key_of
from millrace.views import likes, media, users
from millrace.views.hydration import user_rows
from millrace.views.likes import LIKES
from services import presentation
from services.call import Call
from services.page import page_of
from services.parts import Parts
from services.recording import Recording
from services.sessions import Sessions
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from social.v1 import likes_pb2 as pb


class LikesService:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.views
        self._clock = parts.clock
        self._facts = parts.media_facts
        self._sessions = Sessions(parts)

    async def like_media(self, call: Call, request: pb.LikeMediaRequest) -> pb.LikeMediaResponse:
        await self._admit(call, request.media_id)
        liked = MediaLiked(
            user_id=call.user_id, media_id=request.media_id, at_ms=self._clock.now_ms()
        )
        await call.append("likes", key_of(call.user_id), LikesEvent(liked=liked))
        return pb.LikeMediaResponse()

    async def unlike_media(
        self, call: Call, request: pb.UnlikeMediaRequest
    ) -> pb.UnlikeMediaResponse:
        await self._admit(call, request.media_id)
        unliked = MediaUnliked(
            user_id=call.user_id, media_id=request.media_id, at_ms=self._clock.now_ms()
        )
        await call.append("likes", key_of(call.user_id), LikesEvent(unliked=unliked))
        return pb.UnlikeMediaResponse()

    async def list_likers(self, call: Call, request: pb.ListLikersRequest) -> pb.ListLikersResponse:
        page = page_of(call, "likers", request.media_id, request.page_size, request.page_token)
        stale = await call.stale(likes.VIEW, media.VIEW, users.VIEW)
        policy.check_media_seen(await self._facts.get(request.media_id))
        edges = await LIKES.page(
            self._store, request.media_id, after=page.after, limit=page.limit + 1
        )
        shown = edges[: page.limit]
        rows = await user_rows(self._store, [edge.target for edge in shown])
        return pb.ListLikersResponse(
            users=[presentation.user_summary(row) for row in rows],
            next_page_token=page.next_token(edges, [edge.target for edge in shown]),
            stale=stale,
        )

    async def record_likes(
        self, call: Call, requests: AsyncIterator[pb.RecordLikesRequest]
    ) -> AsyncIterator[pb.RecordLikesResponse]:
        async with aclosing(Recording(call, self._sessions).answers(requests)) as answers:
            async for answer in answers:
                yield answer

    async def _admit(self, call: Call, media_id: int) -> None:
        """By what the views say now, and never behind what the caller has seen himself do."""
        await call.stale(media.VIEW, users.VIEW)
        policy.check_media_seen(await self._facts.get(media_id))
