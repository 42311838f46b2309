"""FollowsService: one event an edge's change, keyed by the follower; reads of both directions.

Not yet: blocks, mutes, requests, RemoveFollower, GetRelationships.
"""

import asyncio

from millrace import policy
from millrace.log.partitioner import key_of
from millrace.stores.port import EdgeRow
from millrace.views import follows, users
from millrace.views.follows import FOLLOWS
from millrace.views.hydration import user_rows
from millrace.views.users import UserRow
from services import presentation
from services.call import Call
from services.page import page_of
from services.parts import Parts
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed, UserUnfollowed
from social.v1 import follows_pb2 as pb


class FollowsService:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.views
        self._clock = parts.clock
        self._followees_max = parts.settings.followees_max

    async def follow(self, call: Call, request: pb.FollowRequest) -> pb.FollowResponse:
        follower, followee = call.user_id, request.user_id
        await call.stale(users.VIEW, follows.VIEW)
        rows, following = await asyncio.gather(
            users.by_id(self._store, [followee]), FOLLOWS.count(self._store, [follower])
        )
        has_room = following[follower] < self._followees_max or await self._stands(
            follower, followee
        )
        policy.check_follow(
            follower,
            followee,
            stands=followee in rows,
            has_room=has_room,
            followees_max=self._followees_max,
        )
        followed = UserFollowed(
            follower_id=follower, followee_id=followee, at_ms=self._clock.now_ms()
        )
        await call.append("follows", key_of(follower), FollowsEvent(followed=followed))
        return pb.FollowResponse(state=pb.FOLLOW_STATE_FOLLOWING)

    async def unfollow(self, call: Call, request: pb.UnfollowRequest) -> pb.UnfollowResponse:
        follower, followee = call.user_id, request.user_id
        policy.check_not_self(follower, followee)
        await call.stale(users.VIEW)
        policy.check_user_seen(followee in await users.by_id(self._store, [followee]))
        unfollowed = UserUnfollowed(
            follower_id=follower, followee_id=followee, at_ms=self._clock.now_ms()
        )
        await call.append("follows", key_of(follower), FollowsEvent(unfollowed=unfollowed))
        return pb.UnfollowResponse()

    async def list_followers(
        self, call: Call, request: pb.ListFollowersRequest
    ) -> pb.ListFollowersResponse:
        page = page_of(call, "followers", request.user_id, request.page_size, request.page_token)
        stale = await call.stale(follows.VIEW, users.VIEW)
        edges = await FOLLOWS.inverse_page(
            self._store, request.user_id, after=page.after, limit=page.limit + 1
        )
        ids = [edge.source for edge in edges[: page.limit]]
        rows = await self._shown(request.user_id, ids)
        return pb.ListFollowersResponse(
            users=[presentation.user_summary(row) for row in rows],
            next_page_token=page.next_token(edges, ids),
            stale=stale,
        )

    async def list_following(
        self, call: Call, request: pb.ListFollowingRequest
    ) -> pb.ListFollowingResponse:
        page = page_of(call, "following", request.user_id, request.page_size, request.page_token)
        stale = await call.stale(follows.VIEW, users.VIEW)
        edges: list[EdgeRow] = await FOLLOWS.page(
            self._store, request.user_id, after=page.after, limit=page.limit + 1
        )
        ids = [edge.target for edge in edges[: page.limit]]
        rows = await self._shown(request.user_id, ids)
        return pb.ListFollowingResponse(
            users=[presentation.user_summary(row) for row in rows],
            next_page_token=page.next_token(edges, ids),
            stale=stale,
        )

    async def _stands(self, follower: int, followee: int) -> bool:
        """A follow that stands takes no more room: its answer may have been lost."""
        return bool(await FOLLOWS.among(self._store, [(follower, followee)]))

    async def _shown(self, owner_id: int, ids: list[int]) -> list[UserRow]:
        owner, rows = await asyncio.gather(
            users.by_id(self._store, [owner_id]), user_rows(self._store, ids)
        )
        policy.check_user_seen(owner_id in owner)
        return rows
