"""A session that calls through the real client and writes down what it did and was told.

What was not answered is sometimes asked again with the same request, and sometimes left, so that
both ends are judged. Several of them: `recorded_sessions`.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from millrace.client import Client, Pages, Session, new_request_id
from millrace.errors import Exhausted, MillraceError, OutcomeUnknown, StoreUnavailable
from millrace.traffic.record import Edge, Record, Remark, Upload
from social.v1 import media_pb2
from tests.session_history import (
    GONE,
    NOT_TOLD,
    Key,
    Outcome,
    Read,
    Rows,
    SessionHistory,
    Write,
)
from tests.system.test_main_job import picture

_PAGE = 100
# The caption of what stays and is liked and commented on; others are named by their caption.
BASE = "base "

_Call = Callable[[], Awaitable[None]]
T = TypeVar("T")


@dataclass(slots=True)
class World:
    """What the sessions know of each other. `items`: the media that stay, by author. `record`:
    what was acknowledged, in the form of the demo's checks.
    """

    history: SessionHistory
    items: dict[int, int] = field(default_factory=dict)
    record: Record = field(default_factory=Record)


class RecordedSession:
    """One session, one call at a time, on a client of its own, which counts its retries."""

    def __init__(self, number: int, client: Client, session: Session, world: World) -> None:
        self.number = number
        self.client = client
        self.session = session
        self.world = world
        # Acknowledged writes, and calls that have ended, well or not.
        self.answered = 0
        self.tried = 0
        self._random = random.Random(number)
        self._names = 0
        self._own_comments: dict[str, tuple[int, int]] = {}
        self._own_media: dict[str, int] = {}
        self._taken_back: set[str] = set()
        self._again: list[_Call] = []
        self._calls: dict[_Call, int] = {
            self.like: 24, self.follow: 6, self.comment: 14, self.uncomment: 3, self.upload: 3,
            self.delete: 1, self.caption: 5, self.profile: 5, self.see_likes: 12,
            self.see_following: 5, self.see_comments: 10, self.see_media: 4, self.see_feed: 4,
            self.see_profile: 4,
        }  # fmt: skip

    @property
    def me(self) -> int:
        return self.session.user_id

    async def call_once(self) -> None:
        """Something by chance, now and then what was not answered before."""
        (call,) = self._random.choices(list(self._calls), list(self._calls.values()))
        if self._again and self._random.random() < 0.3:
            call = self._again.pop()
        await call()
        self.tried += 1

    # --- writes -----------------------------------------------------------------------

    async def like(self) -> None:
        media_id = self._random.choice(list(self.world.items.values()))
        live = self._random.random() < 0.6
        call = self.client.like if live else self.client.unlike
        done = await self._write(
            ("like", self.me, media_id), live or GONE, call(self.session, media_id)
        )
        if done:
            edge = Edge("likes", self.me, media_id, live=live)
            self.world.record.acknowledged.edges[edge] += 1

    async def follow(self) -> None:
        user_id = self._random.choice([one for one in self.world.items if one != self.me])
        live = self._random.random() < 0.6
        call = self.client.follow if live else self.client.unfollow
        done = await self._write(
            ("follow", self.me, user_id), live or GONE, call(self.session, user_id)
        )
        if done:
            edge = Edge("follows", self.me, user_id, live=live)
            self.world.record.acknowledged.edges[edge] += 1

    async def caption(self) -> None:
        text = self._name(BASE)
        media_id = self.world.items[self.me]
        call = self.client.edit_caption(self.session, media_id, text)
        await self._write(("caption", self.me, media_id), text, call)

    async def profile(self) -> None:
        bio = self._name("bio ")
        call = self.client.update_profile(self.session, display_name="x", bio=bio)
        if await self._write(("bio", self.me, 0), bio, call):
            self.world.record.acknowledged.profiles.append((self.me, bio))

    async def comment(self) -> None:
        media_id = self._random.choice(list(self.world.items.values()))
        await self._add_comment(media_id, self._name("comment "), new_request_id())

    async def _add_comment(self, media_id: int, text: str, request: str) -> None:
        async def made() -> int:
            call = self.client.add_comment(self.session, media_id, text, request_id=request)
            return (await call).id

        key = ("comment", media_id, text)
        comment_id = await self._create(
            key, request, made(), lambda: self._add_comment(media_id, text, request)
        )
        if comment_id and text not in self._own_comments:
            self._own_comments[text] = media_id, comment_id
            told = Remark(self.me, comment_id, media_id, request, text)
            self.world.record.acknowledged.remarks.append(told)

    async def uncomment(self) -> None:
        if not self._own_comments:
            return
        text = self._random.choice(list(self._own_comments))
        media_id, comment_id = self._own_comments.pop(text)
        self._taken_back.add(text)
        remarks = self.world.record.acknowledged.remarks
        remarks[:] = [one for one in remarks if one.comment_id != comment_id]
        call = self.client.delete_comment(self.session, media_id, comment_id)
        await self._write(("comment", media_id, text), GONE, call, hides=True)

    async def upload(self) -> None:
        await self._upload(self._name("media "), new_request_id())

    async def _upload(self, caption: str, request: str) -> None:
        item = media_pb2.MediaItem()

        async def made() -> int:
            shade = sum(caption.encode()) % 256
            item.CopyFrom(
                await self.client.upload(self.session, picture(shade), caption, request_id=request)
            )
            return item.id

        key = ("media", self.me, caption)
        media_id = await self._create(key, request, made(), lambda: self._upload(caption, request))
        if media_id and caption not in self._own_media:
            self._own_media[caption] = media_id
            told = Upload(self.me, media_id, request, item.sha256, caption)
            self.world.record.acknowledged.uploads.append(told)

    async def delete(self) -> None:
        if not self._own_media:
            return
        caption = self._random.choice(list(self._own_media))
        media_id = self._own_media.pop(caption)
        self._taken_back.add(caption)
        uploads = self.world.record.acknowledged.uploads
        uploads[:] = [one for one in uploads if one.media_id != media_id]
        call = self.client.delete_media(self.session, media_id)
        await self._write(("media", self.me, caption), GONE, call, hides=True)

    # --- reads ------------------------------------------------------------------------

    async def see_likes(self, drained: int = 0) -> None:
        await self._see_items(frozenset(self.world.items.values()), drained)

    async def _see_items(self, ids: frozenset[int], drained: int) -> None:
        async with self._reading() as began_s:
            answer = await self.client.get_media(self.session, sorted(ids))
            shown = [(one.id, one.viewer_likes, one.caption, one.author.id) for one in answer.items]
            likes = tuple((item, True) for item, live, _, _ in shown if live)
            self._read("like", self.me, likes, began_s, ids, stale=answer.stale, drained=drained)
            for item, _, caption, author in shown:
                rows = ((item, caption),)
                self._read(
                    "caption", author, rows, began_s, frozenset([item]),
                    stale=answer.stale, drained=drained,
                )  # fmt: skip
            if missing := ids - {item for item, *_ in shown}:
                self.world.history.refused.append(f"session {self.number} sees no {missing}")

    async def see_following(self, drained: int = 0) -> None:
        async with self._reading() as began_s:
            pages = self.client.following(self.session, self.me, page_size=_PAGE)
            users, stale = await _all(pages)
            rows = tuple((one.id, True) for one in users)
            self._read("follow", self.me, rows, began_s, stale=stale, drained=drained)

    async def see_comments(self, drained: int = 0, media_id: int = 0) -> None:
        media_id = media_id or self._random.choice(list(self.world.items.values()))
        async with self._reading() as began_s:
            count = None
            if drained:
                (item,) = (await self.client.get_media(self.session, [media_id])).items
                count = item.comments_count
            pages = self.client.comments(self.session, media_id, page_size=_PAGE)
            comments, stale = await _all(pages)
            rows = tuple((one.text, one.id) for one in comments)
            self._read(
                "comment", media_id, rows, began_s, stale=stale, count=count, drained=drained
            )

    async def see_likers(self, drained: int, media_id: int) -> None:
        async with self._reading() as began_s:
            (item,) = (await self.client.get_media(self.session, [media_id])).items
            pages = self.client.likers(self.session, media_id, page_size=_PAGE)
            users, stale = await _all(pages)
            rows = tuple((one.id, True) for one in users)
            self._read(
                "likers", media_id, rows, began_s, frozenset(),
                stale=stale, count=item.likes_count, drained=drained,
            )  # fmt: skip

    async def see_media(self, drained: int = 0) -> None:
        pages = self.client.user_media(self.session, self.me, page_size=_PAGE)
        await self._see_own_media(pages, drained)

    async def see_feed(self, drained: int = 0) -> None:
        pages = self.client.feed(self.session, page_size=_PAGE, require_complete=True)
        await self._see_own_media(pages, drained)

    async def _see_own_media(self, pages: Pages[media_pb2.MediaItem], drained: int) -> None:
        async with self._reading() as began_s:
            items, stale = await _all(pages)
            own = [one for one in items if one.author.id == self.me]
            rows = tuple((one.caption, one.id) for one in own if not one.caption.startswith(BASE))
            self._read("media", self.me, rows, began_s, stale=stale, drained=drained)

    async def see_profile(self, drained: int = 0) -> None:
        async with self._reading() as began_s:
            answer = await self.client.get_users(self.session, [self.me])
            rows = tuple((0, user.bio or GONE) for user in answer.users)
            self._read("bio", self.me, rows, began_s, stale=answer.stale, drained=drained)

    # --- what is written down ---------------------------------------------------------

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self.number}-{self._names}"

    async def _create(
        self, key: Key, request: str, made: Awaitable[int], again: _Call
    ) -> int | None:
        """The id that was answered. What was answered may be asked again as well."""
        made_id: int | None = await self._write(key, NOT_TOLD, made, request=request)
        if self._random.random() < (0.05 if made_id else 0.5):
            self._again.append(lambda: self._ask_again(key, again))
        return made_id

    async def _ask_again(self, key: Key, again: _Call) -> None:
        # What was taken back since is answered with NOT_FOUND.
        if key[2] not in self._taken_back:
            await again()

    async def _write(
        self,
        key: Key,
        value: str | bool,
        call: Awaitable[object],
        *,
        request: str = "",
        hides: bool = False,
    ) -> int | None:
        """What was answered (of a creation its id), None without an answer."""
        began_s, retries = time.monotonic(), self.client.retries
        outcome, reason, answer = Outcome.DONE, "", 0
        try:
            answered = await call
            answer = answered if isinstance(answered, int) and request else 1
        except MillraceError as error:
            tried_again = self.client.retries > retries
            unknown = isinstance(error, OutcomeUnknown) or tried_again
            outcome = Outcome.UNKNOWN if unknown else Outcome.REFUSED
            passing = isinstance(error, StoreUnavailable | Exhausted)
            reason = "" if passing else f"{error.reason} {error.message}"
            answered = None
        done = outcome is Outcome.DONE
        self.world.history.writes.append(
            Write(
                self.number, key, answer if done and request else value,
                began_s, time.monotonic(), outcome, request,
                for_all=done and (bool(request) or (hides and answered is True)),
                tried_again=self.client.retries > retries, reason=reason,
            )
        )  # fmt: skip
        self.answered += done
        return answer if done else None

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[float]:
        history = self.world.history
        try:
            yield time.monotonic()
        except (StoreUnavailable, Exhausted):
            history.unanswered += 1
        except MillraceError as error:
            history.refused.append(f"session {self.number} reads: {error.reason} {error.message}")

    def _read(
        self,
        kind: str,
        owner: int,
        rows: Rows,
        began_s: float,
        asked: Iterable[int] | None = None,
        *,
        stale: bool,
        count: int | None = None,
        drained: int = 0,
    ) -> None:
        self.world.history.reads.append(
            Read(
                self.number, kind, owner, rows, began_s, time.monotonic(),
                None if asked is None else frozenset(asked), stale, count, drained,
            )
        )  # fmt: skip


async def _all(pages: Pages[T]) -> tuple[list[T], bool]:
    """Everything, and whether any page was stale."""
    found: list[T] = []
    stale = False
    async for page in pages.by_page():
        found += page.items
        stale |= page.stale
    return found, stale
