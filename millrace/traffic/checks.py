"""Is everything there that was acknowledged, once, and does every view say what the log says?

Three opinions meet: what the client was told (Record), what the log holds (History, with the
oracle fed from it), and what the RPCs answer. Run them when the processors have caught up and
nobody writes.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from millrace.client import Client, Session
from millrace.errors import MillraceError
from millrace.stores.port import ViewStore
from millrace.stores.schema import EdgeTable
from millrace.traffic.history import History
from millrace.traffic.record import Record
from social.v1 import feed_pb2, likes_pb2, media_pb2, users_pb2

T = TypeVar("T")
BATCH = 100
PARALLEL = 8
SHOWN_MAX = 5


@dataclass(slots=True)
class Check:
    """`claim` holds for all of `examined`, but for those in `wrong` (the first few in words)."""

    claim: str
    examined: int = 0
    wrong_count: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.wrong_count == 0

    def expect(self, what: str, expected: object, found: object) -> None:
        self.examined += 1
        if expected != found:
            self.fail(f"{what}: expected {_short(expected)}, found {_short(found)}")

    def fail(self, text: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < SHOWN_MAX:
            self.wrong.append(text)


class Checks:
    """All of them, one method each. `sessions`: the viewers whose feeds are read."""

    def __init__(
        self,
        client: Client,
        sessions: Sequence[Session],
        record: Record,
        history: History,
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._record = record
        self._history = history
        self._oracle = history.oracle
        self._parallel = asyncio.Semaphore(PARALLEL)

    async def all(self) -> AsyncIterator[Check]:
        """By what the client was told, then by what the log holds."""
        yield self.registrations()
        yield self.uploads()
        yield self.remarks()
        yield self.edges()
        yield self.dead_letters()
        yield await self.users()
        yield await self.media()
        yield await self.likers()
        yield await self.comments()
        yield await self.bytes_stored()
        yield await self.feeds()

    def registrations(self) -> Check:
        check = Check("every acknowledged registration has its handle, every profile its update")
        for user_id, handle in self._record.acknowledged.registered.items():
            found = self._oracle.handle(user_id) if user_id in self._oracle.users else None
            check.expect(f"user {user_id}", handle, found)
        for update in self._record.acknowledged.profiles:
            check.expect(f"profile {update}", True, update in self._history.profiles)
        return check

    def uploads(self) -> Check:
        check = Check("every acknowledged upload is in the log and counts once")
        for upload in self._record.acknowledged.uploads:
            request = (upload.user_id, uuid.UUID(upload.request_id).bytes)
            check.expect(f"upload {upload}", upload.media_id, self._oracle.uploads.get(request))
            item = self._oracle.media.get(upload.media_id)
            told = (upload.user_id, upload.sha256, upload.caption)
            held = (item.author_id, item.content_sha256, item.caption) if item else None
            check.expect(f"media {upload.media_id}", told, held)
        return check

    def remarks(self) -> Check:
        check = Check("every acknowledged comment is in the log and counts once")
        for remark in self._record.acknowledged.remarks:
            request = (remark.user_id, uuid.UUID(remark.request_id).bytes)
            check.expect(f"comment {remark}", remark.comment_id, self._oracle.remarks.get(request))
            held = self._oracle.comments.get(remark.comment_id)
            told = (remark.media_id, remark.user_id, remark.text)
            check.expect(
                f"comment {remark.comment_id}",
                told,
                (held.media_id, held.author_id, held.text) if held else None,
            )
        return check

    def edges(self) -> Check:
        """A retry may write an edge's event twice: it sets a state, so that does no harm."""
        check = Check("every acknowledged follow, unfollow, like and unlike is in the log")
        for edge, acknowledged in self._record.acknowledged.edges.items():
            check.examined += acknowledged
            missing = acknowledged - self._history.edges[edge]
            if missing > 0:
                check.fail(f"{missing} of {acknowledged} are missing: {edge}")
        return check

    def dead_letters(self) -> Check:
        check = Check("no event became a dead letter")
        for topic, count in self._history.dead_letters.items():
            check.expect(topic, 0, count)
        check.expect("undecodable records", 0, self._history.events["poison"])
        return check

    async def users(self) -> Check:
        check = Check("profiles and the counts of followers, followees and media are the log's")
        oracle, viewer = self._oracle, self._sessions[0]

        async def look(ids: Sequence[int]) -> None:
            request = users_pb2.GetUsersRequest(user_ids=ids)
            answer = await self._client.call(lambda s: s.users.GetUsers, request, viewer)
            found = {user.id: user for user in answer.users}
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
                check.expect(f"user {user_id}", expected, shown)

        await self._each(check, _batches(oracle.users), look)
        return check

    async def media(self) -> Check:
        check = Check("media, their captions and counts are the log's; deleted ones are gone")
        oracle, viewer = self._oracle, self._sessions[0]

        async def look(ids: Sequence[int]) -> None:
            request = media_pb2.GetMediaRequest(media_ids=ids)
            answer = await self._client.call(lambda s: s.media.GetMedia, request, viewer)
            found = {item.id: item for item in answer.items}
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
                check.expect(f"media {media_id}", expected, shown)

        await self._each(check, _batches(oracle.media), look)
        return check

    async def likers(self) -> Check:
        check = Check("the likers of every item, all pages, are the log's set")

        async def look(media_id: int) -> None:
            found: list[int] = []
            request = likes_pb2.ListLikersRequest(media_id=media_id, page_size=BATCH)
            while True:
                answer = await self._client.call(
                    lambda s: s.likes.ListLikers, request, self._sessions[0]
                )
                found += [user.id for user in answer.users]
                if not answer.next_page_token:
                    break
                request.page_token = answer.next_page_token
            check.expect(f"media {media_id}", sorted(self._oracle.likers[media_id]), sorted(found))

        standing = [id_ for id_, item in self._oracle.media.items() if not item.deleted]
        await self._each(check, standing, look)
        return check

    async def comments(self) -> Check:
        check = Check("the comments under every item, all pages, are the log's, in order")

        async def look(media_id: int) -> None:
            pages = self._client.comments(self._sessions[0], media_id, page_size=BATCH)
            found = [(one.id, one.author.id, one.text) async for one in pages]
            held = self._oracle.comments
            ids = sorted(self._oracle.comments_of[media_id], reverse=True)
            expected = [(one, held[one].author_id, held[one].text) for one in ids]
            check.expect(f"media {media_id}", expected, found)

        standing = [
            id_
            for id_, item in self._oracle.media.items()
            if not item.deleted and self._oracle.count_comments(id_)
        ]
        await self._each(check, standing, look)
        return check

    async def bytes_stored(self) -> Check:
        check = Check("the bytes of every upload can be downloaded and have their checksum")

        async def look(media_id: int) -> None:
            header, data = await self._client.download(self._sessions[0], media_id)
            held = self._oracle.media[media_id]
            found = (header.sha256, hashlib.sha256(data).digest(), len(data))
            check.expect(
                f"media {media_id}",
                (held.content_sha256, held.content_sha256, held.size_bytes),
                found,
            )

        standing = [id_ for id_, item in self._oracle.media.items() if not item.deleted]
        await self._each(check, standing, look)
        return check

    async def feeds(self) -> Check:
        check = Check("feeds, all pages, are what their definition says")

        async def look(session: Session) -> None:
            found = [item.id async for item in feed_of(self._client, session)]
            check.expect(f"feed of {session.user_id}", self._oracle.feed(session.user_id), found)

        await self._each(check, self._sessions, look)
        return check

    async def _each(
        self, check: Check, things: Iterable[T], look: Callable[[T], Awaitable[None]]
    ) -> None:
        async def bounded(thing: T) -> None:
            async with self._parallel:
                try:
                    await look(thing)
                except MillraceError as error:
                    check.fail(f"{_short(thing)}: {error}")

        await asyncio.gather(*(bounded(thing) for thing in things))


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


async def stored_edges(
    store: ViewStore, table: EdgeTable, claim: str, sets: dict[int, set[int]]
) -> Check:
    """The table's live edges, all of them, against sets by source."""
    check = Check(claim)
    found: dict[int, set[int]] = {}
    async for edge in store.scan_edges(table):
        found.setdefault(edge.source, set()).add(edge.target)
        check.examined += 1
    for source in {source for source, targets in sets.items() if targets} | set(found):
        expected, held = sets.get(source, set()), found.get(source, set())
        if expected != held:
            check.fail(
                f"{table.name} of {source}: missing {_short(expected - held)},"
                f" too many {_short(held - expected)}"
            )
    return check


def _batches(ids: Iterable[int]) -> Iterable[Sequence[int]]:
    ordered = sorted(ids)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "…"
