"""Plays a plan against a running Millrace, in time, whatever the answers do.

Each call starts when the plan says; its latency counts from that moment, also when it had to wait
for its turn (so a slow server cannot hide behind a slow client). At most `outstanding_max` calls
are under way: beyond that starts are late, and the latencies tell.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from millrace.client import Client, new_request_id
from millrace.errors import Bug, MillraceError
from millrace.traffic import people
from millrace.traffic.actors import Actor, Cast
from millrace.traffic.plan import Action, Plan, Rpc
from millrace.traffic.record import OK, SKIPPED, Edge, Record, Remark, Sample, Upload
from social.v1 import feed_pb2, follows_pb2, likes_pb2, media_pb2, users_pb2

OUTSTANDING_MAX = 512


class Post(NamedTuple):
    """A picture to upload, as bytes of a file, and what is said about it."""

    data: bytes
    caption: str


class _NotYet(Exception):
    """What the call needs is not there: somebody's session, or an upload."""


class Traffic:
    """One run. `posts[i]` is the i-th upload of the plan, repeated when there are fewer."""

    def __init__(
        self,
        client: Client,
        cast: Cast,
        plan: Plan,
        posts: Sequence[Post],
        *,
        outstanding_max: int = OUTSTANDING_MAX,
    ) -> None:
        self.record = Record()
        self.outstanding = 0
        self._stopped = False
        self._client = client
        self._cast = cast
        self._plan = plan
        self._posts = posts
        self._slots = asyncio.Semaphore(outstanding_max)
        self._media: dict[int, int] = {}  # ordinal of an upload -> media id
        self._calls: dict[Rpc, Callable[[Action], Awaitable[None]]] = {
            Rpc.LOG_IN: self._log_in,
            Rpc.REGISTER: self._register,
            Rpc.UPDATE_PROFILE: self._update_profile,
            Rpc.GET_USERS: self._get_users,
            Rpc.FOLLOW: self._follow,
            Rpc.UNFOLLOW: self._unfollow,
            Rpc.UPLOAD: self._upload,
            Rpc.LIST_MEDIA: self._list_media,
            Rpc.DOWNLOAD: self._download,
            Rpc.LIKE: self._like,
            Rpc.UNLIKE: self._unlike,
            Rpc.LIST_LIKERS: self._list_likers,
            Rpc.COMMENT: self._comment,
            Rpc.LIST_COMMENTS: self._list_comments,
            Rpc.GET_FEED: self._get_feed,
        }

    async def run(self) -> Record:
        """Returns when every call has ended. `record` and `outstanding` may be watched."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as under_way:
            for action in self._plan.actions:
                if self._stopped:
                    break
                await asyncio.sleep(max(start_s + action.at_s - loop.time(), 0))
                await self._slots.acquire()
                under_way.create_task(self._play(action, start_s))
        elapsed_s = loop.time() - start_s
        self.record.seconds = elapsed_s if self._stopped else max(elapsed_s, self._plan.seconds)
        self.record.retries = self._client.retries
        return self.record

    def stop(self) -> None:
        """Begin no more calls: the plan ends here."""
        self._stopped = True

    async def _play(self, action: Action, start_s: float) -> None:
        self.outstanding += 1
        self.record.outstanding_max = max(self.record.outstanding_max, self.outstanding)
        try:
            await self._calls[action.rpc](action)
            outcome = OK
        except _NotYet:
            outcome = SKIPPED
        except MillraceError as error:
            outcome = error.reason
        finally:
            self.outstanding -= 1
            self._slots.release()
        ended_s = asyncio.get_running_loop().time() - start_s
        self.record.samples.append(Sample(action.rpc, action.at_s, ended_s, outcome))

    def _actor(self, action: Action) -> Actor:
        actor = self._cast.actor(action.actor)
        if actor is None:
            raise _NotYet
        return actor

    def _user(self, action: Action) -> int:
        user_id = self._cast.user_id(action.target)
        if user_id is None:
            raise _NotYet
        return user_id

    def _item(self, action: Action) -> int:
        media_id = self._media.get(action.target)
        if media_id is None:
            raise _NotYet
        return media_id

    async def _log_in(self, action: Action) -> None:
        await self._cast.log_in(action.actor)

    async def _register(self, action: Action) -> None:
        actor = await self._cast.register(action.actor)
        self.record.acknowledged.registered[actor.user_id] = self._cast.handle(action.actor)

    async def _update_profile(self, action: Action) -> None:
        actor = self._actor(action)
        bio = f"online since second {action.at_s:.0f}"
        request = users_pb2.UpdateProfileRequest(
            request_id=new_request_id(),
            display_name=people.display_name(action.actor),
            bio=bio,
        )
        async with actor.writing:
            await self._client.call(lambda s: s.users.UpdateProfile, request, actor.session)
            self.record.acknowledged.profiles.append((actor.user_id, bio))

    async def _get_users(self, action: Action) -> None:
        actor = self._actor(action)
        request = users_pb2.GetUsersRequest(user_ids=[self._user(action)])
        await self._client.call(lambda s: s.users.GetUsers, request, actor.session)

    async def _follow(self, action: Action) -> None:
        actor, user_id = self._actor(action), self._user(action)
        request = follows_pb2.FollowRequest(request_id=new_request_id(), user_id=user_id)
        async with actor.writing:
            await self._client.call(lambda s: s.follows.Follow, request, actor.session)
            self._wrote(Edge("follows", actor.user_id, user_id, live=True))

    async def _unfollow(self, action: Action) -> None:
        actor, user_id = self._actor(action), self._user(action)
        request = follows_pb2.UnfollowRequest(request_id=new_request_id(), user_id=user_id)
        async with actor.writing:
            await self._client.call(lambda s: s.follows.Unfollow, request, actor.session)
            self._wrote(Edge("follows", actor.user_id, user_id, live=False))

    async def _upload(self, action: Action) -> None:
        actor = self._actor(action)
        post = self._posts[action.target % len(self._posts)]
        request_id = new_request_id()
        item = await self._client.upload(
            actor.session, post.data, post.caption, request_id=request_id
        )
        if not item.id:
            raise Bug("an upload was answered without an id")
        self._media[action.target] = item.id
        self.record.acknowledged.uploads.append(
            Upload(actor.user_id, item.id, request_id, item.sha256, post.caption)
        )

    async def _list_media(self, action: Action) -> None:
        actor = self._actor(action)
        request = media_pb2.ListUserMediaRequest(user_id=self._user(action))
        await self._client.call(lambda s: s.media.ListUserMedia, request, actor.session)

    async def _download(self, action: Action) -> None:
        actor = self._actor(action)
        await self._client.download(actor.session, self._item(action))

    async def _like(self, action: Action) -> None:
        actor, media_id = self._actor(action), self._item(action)
        request = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=media_id)
        async with actor.writing:
            await self._client.call(lambda s: s.likes.LikeMedia, request, actor.session)
            self._wrote(Edge("likes", actor.user_id, media_id, live=True))

    async def _unlike(self, action: Action) -> None:
        actor, media_id = self._actor(action), self._item(action)
        request = likes_pb2.UnlikeMediaRequest(request_id=new_request_id(), media_id=media_id)
        async with actor.writing:
            await self._client.call(lambda s: s.likes.UnlikeMedia, request, actor.session)
            self._wrote(Edge("likes", actor.user_id, media_id, live=False))

    async def _list_likers(self, action: Action) -> None:
        actor = self._actor(action)
        request = likes_pb2.ListLikersRequest(media_id=self._item(action))
        await self._client.call(lambda s: s.likes.ListLikers, request, actor.session)

    async def _comment(self, action: Action) -> None:
        actor, media_id = self._actor(action), self._item(action)
        request_id, text = new_request_id(), f"seen at second {action.at_s:.0f}"
        comment = await self._client.add_comment(
            actor.session, media_id, text, request_id=request_id
        )
        self.record.acknowledged.remarks.append(
            Remark(actor.user_id, comment.id, media_id, request_id, text)
        )

    async def _list_comments(self, action: Action) -> None:
        actor = self._actor(action)
        await self._client.comments(actor.session, self._item(action)).page()

    async def _get_feed(self, action: Action) -> None:
        actor = self._actor(action)
        request = feed_pb2.GetFeedRequest()
        await self._client.call(lambda s: s.feed.GetFeed, request, actor.session)

    def _wrote(self, edge: Edge) -> None:
        self.record.acknowledged.edges[edge] += 1
