"""Plays a plan against a running Millrace, in time, whatever the answers do.

Each call starts when the plan says; its latency counts from that moment, also when it had to wait
for its turn (so a slow server cannot hide behind a slow client). At most `outstanding_max` calls
are under way: one that is due beyond that is dropped, and counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from millrace.client import Client, Session, new_request_id
from millrace.clock import Clock, SystemClock
from millrace.errors import Bug, Exhausted, MillraceError, OutcomeUnknown
from millrace.traffic import people
from millrace.traffic.actors import Actor, Cast
from millrace.traffic.mix import Rpc
from millrace.traffic.plan import Action
from millrace.traffic.record import Edge, Record, Remark, Upload
from millrace.traffic.tally import DROPPED, OK, SKIPPED, Tally, window_s_of
from social.v1 import feed_pb2, follows_pb2, likes_pb2, media_pb2, users_pb2

OUTSTANDING_MAX = 512


class Post(NamedTuple):
    """A picture to upload, as bytes of a file, and what is said about it."""

    data: bytes
    caption: str


class Playable(Protocol):
    """A plan, or one process's share of it. `actions` by time."""

    @property
    def actions(self) -> Iterable[Action]: ...
    @property
    def seconds(self) -> float: ...


@dataclass(slots=True)
class News:
    """What others must know to go on: media by upload's ordinal, users by newcomer's number."""

    media: list[tuple[int, int]]
    people: list[tuple[int, int]]


def uploaded(session: Session, item: media_pb2.MediaItem, request_id: str, post: Post) -> Upload:
    """What is acknowledged by the answer of an upload."""
    return Upload(session.user_id, item.id, request_id, item.sha256, post.caption, item.size_bytes)


class _NotYet(Exception):
    """What the call needs is not there: somebody's session, or an upload."""


class Traffic:
    """One run. `posts[i]` is the i-th upload of the plan, repeated when there are fewer."""

    def __init__(
        self,
        client: Client,
        cast: Cast,
        plan: Playable,
        posts: Sequence[Post],
        *,
        outstanding_max: int = OUTSTANDING_MAX,
        clock: Clock | None = None,
    ) -> None:
        self.record = Record(tally=Tally(window_s_of(plan.seconds)))
        self.outstanding = 0
        self._stopped = False
        self._client = client
        self._cast = cast
        self._plan = plan
        self._posts = posts
        self._outstanding_max = outstanding_max
        self._clock = clock or SystemClock()
        self._media: dict[int, int] = {}  # ordinal of an upload -> media id
        self._news = News([], [])
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

    async def run(self, start_s: float | None = None) -> Record:
        """Returns when every call has ended. `record` and `outstanding` may be watched. The plan
        begins at `start_s` by the clock, which runs alike in all processes of a machine, or now.
        """
        clock, tally = self._clock, self.record.tally
        start_s = clock.monotonic_s() if start_s is None else start_s
        retries = self._client.retries
        async with asyncio.TaskGroup() as under_way:
            for action in self._plan.actions:
                await clock.sleep(max(start_s + action.at_s - clock.monotonic_s(), 0))
                if self._stopped:
                    break
                if self.outstanding >= self._outstanding_max:
                    tally.add(action.rpc, action.at_s, action.at_s, DROPPED)
                    continue
                self.outstanding += 1
                tally.late.add(clock.monotonic_s() - start_s - action.at_s)
                under_way.create_task(self._play(action, start_s))
        elapsed_s = clock.monotonic_s() - start_s
        self.record.seconds = elapsed_s if self._stopped else max(elapsed_s, self._plan.seconds)
        self.record.retries = self._client.retries - retries
        return self.record

    def stop(self) -> None:
        """Begin no more calls: the plan ends here."""
        self._stopped = True

    def news(self) -> News:
        """What this process has made since it was asked last."""
        news, self._news = self._news, News([], [])
        return news

    def learn(self, media: Iterable[tuple[int, int]]) -> None:
        """Uploads of other processes."""
        self._media.update(media)

    async def _play(self, action: Action, start_s: float) -> None:
        self.record.outstanding_max = max(self.record.outstanding_max, self.outstanding)
        refused = False
        try:
            await self._calls[action.rpc](action)
            outcome = OK
        except _NotYet:
            outcome = SKIPPED
        except MillraceError as error:
            outcome, refused = error.reason, isinstance(error, Exhausted)
            if isinstance(error, OutcomeUnknown):
                self._doubt(action)
        finally:
            self.outstanding -= 1
        ended_s = self._clock.monotonic_s() - start_s
        self.record.tally.add(action.rpc, action.at_s, ended_s, outcome, refused=refused)

    def _doubt(self, action: Action) -> None:
        """Notes what the action may have changed, or may yet."""
        doubt, actor = self.record.acknowledged.doubt, self._cast.actor(action.actor)
        if actor is None:
            return
        if action.rpc in (Rpc.LIKE, Rpc.UNLIKE):
            doubt.edges.add(("likes", actor.user_id, self._item(action)))
        elif action.rpc in (Rpc.FOLLOW, Rpc.UNFOLLOW):
            doubt.edges.add(("follows", actor.user_id, self._user(action)))
        elif action.rpc is Rpc.COMMENT:
            doubt.media.add(self._item(action))
        elif action.rpc in (Rpc.UPLOAD, Rpc.UPDATE_PROFILE):
            doubt.users.add(actor.user_id)

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
        self._news.people.append((action.actor, actor.user_id))

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
        self._news.media.append((action.target, item.id))
        self.record.acknowledged.uploads.append(uploaded(actor.session, item, request_id, post))

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
        self.record.acknowledged.wrote(edge)
