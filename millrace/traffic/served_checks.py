"""Do the RPCs answer what the oracle says: users, media, likers, comments, bytes, feeds?

The oracle is fed from the log, or from what the calls were told (`told`).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from millrace.client import Client, Session
from millrace.clock import Clock, SystemClock
from millrace.errors import MillraceError
from millrace.oracle import Oracle
from millrace.traffic.check import Check, short
from millrace.traffic.record import Doubt
from social.v1 import feed_pb2, media_pb2, users_pb2

T = TypeVar("T")
BATCH = 100
PARALLEL = 8
_AGAIN_S = 0.5

# What was looked at, what is to be found, what was found.
Look = tuple[str, object, object]


class Served:
    """One method a check. `sessions`: the viewers whose feeds are read. `users`, `media`: those
    that are looked at, all of the oracle's where None; not those in `doubt`. What is not right is
    looked at again for `patience_s`, where nobody else knows whether the views have caught up.
    """

    def __init__(
        self,
        client: Client,
        sessions: Sequence[Session],
        oracle: Oracle,
        *,
        users: Collection[int] | None = None,
        media: Collection[int] | None = None,
        doubt: Doubt | None = None,
        patience_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._oracle = oracle
        self._patience_s = patience_s
        self._clock = clock or SystemClock()
        self._parallel = asyncio.Semaphore(PARALLEL)
        doubt = doubt or Doubt()
        follows = {edge for edge in doubt.edges if edge[0] == "follows"}
        self._unsure_authors = doubt.users
        self._unsure_followers = {user for _, user, _ in follows}
        unsure = doubt.users | self._unsure_followers | {target for _, _, target in follows}
        self._users = set(oracle.users if users is None else users) - unsure
        liked = {target for kind, _, target in doubt.edges if kind == "likes"}
        self._media = set(oracle.media if media is None else media) - doubt.media - liked

    async def all(self) -> AsyncIterator[Check]:
        yield await self.users()
        yield await self.media()
        yield await self.likers()
        yield await self.comments()
        yield await self.bytes_stored()
        yield await self.feeds()

    async def users(self) -> Check:
        check = Check("profiles and the counts of followers, followees and media are the oracle's")
        oracle, viewer = self._oracle, self._sessions[0]

        async def look(ids: Sequence[int]) -> list[Look]:
            request = users_pb2.GetUsersRequest(user_ids=ids)
            answer = await self._client.call(lambda s: s.users.GetUsers, request, viewer)
            found = {user.id: user for user in answer.users}
            looks: list[Look] = []
            for user_id in ids:
                user, held = found.get(user_id), oracle.users[user_id]
                expected = (
                    oracle.handle(user_id), held.display_name, held.bio,
                    oracle.count_followers(user_id), oracle.count_following(user_id),
                    oracle.count_media(user_id),
                )  # fmt: skip
                shown = user and (
                    user.handle, user.display_name, user.bio,
                    user.followers_count, user.following_count, user.media_count,
                )  # fmt: skip
                looks.append((f"user {user_id}", expected, shown))
            return looks

        await self._each(check, _batches(self._users), look)
        return check

    async def media(self) -> Check:
        check = Check("media, their captions and counts are the oracle's; deleted ones are gone")
        oracle, viewer = self._oracle, self._sessions[0]

        async def look(ids: Sequence[int]) -> list[Look]:
            request = media_pb2.GetMediaRequest(media_ids=ids)
            answer = await self._client.call(lambda s: s.media.GetMedia, request, viewer)
            found = {item.id: item for item in answer.items}
            looks: list[Look] = []
            for media_id in ids:
                item, held = found.get(media_id), oracle.media[media_id]
                expected = None if held.deleted else (
                    held.author_id, held.content_sha256, held.size_bytes, held.caption,
                    oracle.count_likes(media_id), viewer.user_id in oracle.likers[media_id],
                    oracle.count_comments(media_id),
                )  # fmt: skip
                shown = item and (
                    item.author.id, item.sha256, item.size_bytes, item.caption,
                    item.likes_count, item.viewer_likes, item.comments_count,
                )  # fmt: skip
                looks.append((f"media {media_id}", expected, shown))
            return looks

        await self._each(check, _batches(self._media), look)
        return check

    async def likers(self) -> Check:
        check = Check("the likers of every item, all pages, are the oracle's set")

        async def look(media_id: int) -> list[Look]:
            pages = self._client.likers(self._sessions[0], media_id, page_size=BATCH)
            found = [user.id async for user in pages]
            return [(f"media {media_id}", sorted(self._oracle.likers[media_id]), sorted(found))]

        await self._each(check, self._standing(), look)
        return check

    async def comments(self) -> Check:
        check = Check("the comments under every item, all pages, are the oracle's, in order")

        async def look(media_id: int) -> list[Look]:
            pages = self._client.comments(self._sessions[0], media_id, page_size=BATCH)
            found = [(one.id, one.author.id, one.text) async for one in pages]
            held = self._oracle.comments
            ids = sorted(self._oracle.comments_of[media_id], reverse=True)
            expected = [(one, held[one].author_id, held[one].text) for one in ids]
            return [(f"media {media_id}", expected, found)]

        with_some = [one for one in self._standing() if self._oracle.count_comments(one)]
        await self._each(check, with_some, look)
        return check

    async def bytes_stored(self) -> Check:
        check = Check("the bytes of every upload can be downloaded and have their checksum")

        async def look(media_id: int) -> list[Look]:
            header, data = await self._client.download(self._sessions[0], media_id)
            held = self._oracle.media[media_id]
            found = (header.sha256, hashlib.sha256(data).digest(), len(data))
            expected = (held.content_sha256, held.content_sha256, held.size_bytes)
            return [(f"media {media_id}", expected, found)]

        await self._each(check, self._standing(), look)
        return check

    async def feeds(self) -> Check:
        check = Check("feeds, all pages, are what their definition says")

        async def look(session: Session) -> list[Look]:
            items = [item async for item in feed_of(self._client, session)]
            found = [one.id for one in items if one.author.id not in self._unsure_authors]
            media = self._oracle.media
            expected = [
                one
                for one in self._oracle.feed(session.user_id)
                if media[one].author_id not in self._unsure_authors
            ]
            return [(f"feed of {session.user_id}", expected, found)]

        sure = [one for one in self._sessions if one.user_id not in self._unsure_followers]
        await self._each(check, sure, look)
        return check

    def _standing(self) -> list[int]:
        return [one for one in sorted(self._media) if not self._oracle.media[one].deleted]

    async def _each(
        self, check: Check, things: Iterable[T], look: Callable[[T], Awaitable[list[Look]]]
    ) -> None:
        async def bounded(thing: T, until_s: float) -> None:
            async with self._parallel:
                while True:
                    looks = await self._looked(thing, look)
                    right = all(expected == found for _, expected, found in looks)
                    if right or self._clock.monotonic_s() >= until_s:
                        break
                    await self._clock.sleep(_AGAIN_S)
            for what, expected, found in looks:
                check.expect(what, expected, found)

        until_s = self._clock.monotonic_s() + self._patience_s
        await asyncio.gather(*(bounded(thing, until_s) for thing in things))

    async def _looked(self, thing: T, look: Callable[[T], Awaitable[list[Look]]]) -> list[Look]:
        try:
            return await look(thing)
        except MillraceError as error:
            return [(short(thing), "an answer", str(error))]


async def feed_of(client: Client, session: Session) -> AsyncIterator[media_pb2.MediaItem]:
    """A viewer's whole feed, page by page."""
    request = feed_pb2.GetFeedRequest(page_size=BATCH, require_complete=True)
    while True:
        page = await client.call(lambda s: s.feed.GetFeed, request, session)
        for item in page.items:
            yield item
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _batches(ids: Iterable[int]) -> Iterable[Sequence[int]]:
    ordered = sorted(ids)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))
