"""RecordLikes: one liker's many likes over one stream, written in groups, acknowledged in order.

Three stages run at once: messages are read and their items admitted by the policy, what was
admitted is appended as one group, what is sure is told to the client. All items have one key, so
the log has them in the order of the stream.

Bound:  at most `recording_unacknowledged_max` items and one message more are held; meanwhile no
        message is read
Ends:   OK when the client has closed his side and all is acknowledged. Whatever else ends it,
        what is sure is acknowledged first
Not:    a client who neither sends nor reads (services/limits.py); which items a client must send
        again: all above the last acknowledgement
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from millrace import policy
from millrace.errors import InvalidRequest, MillraceError, Unauthenticated
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Appended, NewRecord
from millrace.views import media, users
from services.call import Call
from services.errors import status_of
from services.sessions import Sessions
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from social.v1 import likes_pb2 as pb

_TOPIC = "likes"
Requests = AsyncIterator[pb.RecordLikesRequest]


@dataclass(frozen=True, slots=True)
class _Admitted:
    """One message's items: what is to be written of them, and what is refused."""

    last: int
    records: Sequence[NewRecord]
    refused: Sequence[pb.RefusedLike]


class Recording:
    """One stream."""

    def __init__(self, call: Call, sessions: Sessions) -> None:
        self._call = call
        self._parts = call.parts
        self._settings = call.parts.settings
        self._sessions = sessions
        self._key = key_of(call.user_id)
        self._request_id = ""
        # Numbers of items: read, sure (in the log, or refused), told to the client. All count
        # from the one before the stream's first.
        self._read = self._sure = self._told = 0
        self._admitted: deque[_Admitted] = deque()
        self._refused: list[pb.RefusedLike] = []
        self._checked_s = asyncio.get_running_loop().time()
        self._unchecked_items = 0
        self._work, self._news, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answers(self, requests: Requests) -> AsyncGenerator[pb.RecordLikesResponse, None]:
        reading = asyncio.create_task(self._take_in(requests))
        writing = asyncio.create_task(self._write_all(reading))
        reading.add_done_callback(lambda _: self._work.set())
        writing.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                if self._sure > self._told:
                    sure, refused, self._refused = self._sure, self._refused, []
                    yield pb.RecordLikesResponse(acknowledged_sequence=sure, refused=refused)
                    self._told = sure
                    self._room.set()
                elif writing.done():
                    break
                else:
                    self._news.clear()
                    await self._news.wait()
            await writing
            await reading
            if not self._call.wrote:
                await self._cover_what_was_written_before()
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _take_in(self, requests: Requests) -> None:
        await self._call.stale(media.VIEW, users.VIEW)
        while (message := await self._next(requests)) is not None:
            self._check_numbers(message)
            self._unchecked_items += len(message.likes)
            if self._check_is_due():
                await self._check_session()
            self._admitted.append(await self._admit(message.likes))
            self._work.set()
            while self._read - self._told >= self._settings.recording_unacknowledged_max:
                self._room.clear()
                await self._room.wait()

    async def _next(self, requests: Requests) -> pb.RecordLikesRequest | None:
        """None when the client has closed his side."""
        arriving = asyncio.ensure_future(anext(requests, None))
        try:
            while True:
                wait_s = min(self._token_left_s(), self._settings.recording_check_s)
                await asyncio.wait((arriving,), timeout=max(wait_s, 0.0))
                self._check_token()
                if arriving.done():
                    return arriving.result()
                await self._check_session()
        finally:
            arriving.cancel()
            await asyncio.gather(arriving, return_exceptions=True)

    def _check_numbers(self, message: pb.RecordLikesRequest) -> None:
        first = message.likes[0].sequence
        if not self._request_id:
            self._request_id = message.request_id
            self._read = self._sure = self._told = first - 1
        if message.request_id != self._request_id:
            raise InvalidRequest(
                "one stream has one request_id", reason="RECORDING_REQUEST_ID_CHANGED"
            )
        for like in message.likes:
            if like.sequence != self._read + 1:
                raise InvalidRequest(
                    f"after item {self._read} came {like.sequence}",
                    reason="RECORDING_OUT_OF_SEQUENCE",
                )
            self._read = like.sequence

    def _check_is_due(self) -> bool:
        passed_s = asyncio.get_running_loop().time() - self._checked_s
        return (
            self._unchecked_items >= self._settings.recording_check_items
            or passed_s >= self._settings.recording_check_s
        )

    async def _check_session(self) -> None:
        await self._sessions.check(self._call.caller)
        self._checked_s, self._unchecked_items = asyncio.get_running_loop().time(), 0

    def _token_left_s(self) -> float:
        return (self._call.caller.expires_ms - self._parts.clock.now_ms()) / 1000

    def _check_token(self) -> None:
        if self._token_left_s() <= 0:
            raise Unauthenticated(
                "the access token has expired: call RefreshToken", reason="TOKEN_EXPIRED"
            )

    async def _admit(self, likes: Sequence[pb.RecordedLike]) -> _Admitted:
        """By what the views say now."""
        media_ids = list({like.media_id for like in likes})
        found = await asyncio.gather(*map(self._parts.media_facts.get, media_ids))
        facts = dict(zip(media_ids, found, strict=True))
        now_ms = self._parts.clock.now_ms()
        records, refused = [], []
        for like in likes:
            try:
                policy.check_media_seen(facts[like.media_id])
            except MillraceError as refusal:
                refused.append(self._refusal(like.sequence, refusal))
            else:
                event = self._event(like, now_ms)
                records.append(NewRecord(self._key, event.SerializeToString()))
        return _Admitted(likes[-1].sequence, records, refused)

    def _event(self, like: pb.RecordedLike, now_ms: int) -> LikesEvent:
        user_id = self._call.user_id
        if like.unlike:
            unliked = MediaUnliked(user_id=user_id, media_id=like.media_id, at_ms=now_ms)
            return LikesEvent(unliked=unliked)
        return LikesEvent(liked=MediaLiked(user_id=user_id, media_id=like.media_id, at_ms=now_ms))

    def _refusal(self, sequence: int, refusal: MillraceError) -> pb.RefusedLike:
        code: int = status_of(refusal, self._call.trace).code.value[0]
        reason = f"{refusal.reason}: {refusal.message}"
        return pb.RefusedLike(sequence=sequence, code=code, reason=reason)

    async def _write_all(self, reading: "asyncio.Task[None]") -> None:
        while self._admitted or not reading.done():
            if not self._admitted:
                self._work.clear()
                await self._work.wait()
                continue
            group, self._admitted = self._admitted, deque()
            if records := [record for one in group for record in one.records]:
                await self._call.append_many(_TOPIC, records)
            self._refused += [refused for one in group for refused in one.refused]
            self._sure = group[-1].last
            self._news.set()

    async def _cover_what_was_written_before(self) -> None:
        """A stream that wrote nothing answers a position, too: its client may have lost the one
        of an earlier stream, all of whose items were acknowledged before it broke.
        """
        partition = partition_of_owner(self._call.user_id, self._parts.log.partitions)
        if number := (await self._parts.log.ends(_TOPIC))[partition]:
            self._call.covers(Appended(_TOPIC, partition, number))
