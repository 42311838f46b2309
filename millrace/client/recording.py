"""RecordLikes on the client's side: what is not acknowledged is kept and sent again.

One task holds a stream while there is something to send. A stream that breaks, or on which
nothing is acknowledged for `ATTEMPT_S`, is followed by another, on another connection if there is
one, that begins above the last acknowledgement. The session's position comes from a stream that
ended well; when the last one did not, one more without items asks for it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Any, Self

import grpc

from millrace.client.calls import ATTEMPT_S, Calls, Tries, new_request_id
from millrace.client.refusals import details_of, is_passing
from millrace.client.session import Session, take_position
from social.v1 import likes_pb2 as pb

UNACKNOWLEDGED_MAX = 8_000
_MESSAGE_ITEMS_MAX = 1_000
_LOOK_S = 1.0


class Recording:
    """Made by `Client.record_likes`. `acknowledged`: all items up to this number, counted from 1
    in the order of the calls, are done or refused.
    """

    def __init__(
        self,
        calls: Calls,
        session: Session,
        refused: Callable[[pb.RefusedLike], None] | None,
        unacknowledged_max: int,
    ) -> None:
        self._calls = calls
        self._session = session
        self._told_refused = refused
        self._items_max = unacknowledged_max
        self._request_id = new_request_id()
        self._tries = Tries(calls, session, write=True, deadline_s=calls.deadline_s)
        self.acknowledged = 0
        self._items: deque[pb.RecordedLike] = deque()
        self._moved_s = time.monotonic()
        self._work, self._room = asyncio.Event(), asyncio.Event()
        self._closing = self._positioned = False
        self._running: asyncio.Task[None] | None = None

    async def like(self, media_id: int) -> None:
        """Taken, not yet done; waits while too many are unacknowledged."""
        await self._add(media_id, unlike=False)

    async def unlike(self, media_id: int) -> None:
        await self._add(media_id, unlike=True)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(lambda _: self._room.set())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = self._task()
        if error is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return
        self._closing = True
        self._work.set()
        try:
            await running
        finally:
            running.cancel()

    def _task(self) -> "asyncio.Task[None]":
        if self._running is None:
            raise RuntimeError("use it as `async with client.record_likes(…) as recording`")
        return self._running

    async def _add(self, media_id: int, *, unlike: bool) -> None:
        running = self._task()
        while len(self._items) >= self._items_max and not running.done():
            self._room.clear()
            await self._room.wait()
        if running.done():
            running.result()
            raise RuntimeError("the recording has ended")
        if not self._items:
            # A pause is nobody's fault: the deadline counts from here.
            self._moved_s = time.monotonic()
            self._tries.progressed()
        sequence = self.acknowledged + len(self._items) + 1
        self._items.append(pb.RecordedLike(sequence=sequence, media_id=media_id, unlike=unlike))
        self._work.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._session.writing(None, loop.time() + self._calls.deadline_s):
            while not (self._closing and not self._items and self._has_position()):
                if not self._items and not self._closing:
                    self._work.clear()
                    await self._work.wait()
                    self._tries.progressed()
                    continue
                metadata = await self._tries.begin()
                try:
                    await self._one_stream(metadata)
                    continue
                except grpc.aio.AioRpcError as refused:
                    refusal = refused
                passing = is_passing(refusal.code(), details_of(refusal))
                if self._items or self._closing or not passing:
                    await self._tries.after(refusal)

    def _has_position(self) -> bool:
        return self._positioned or not self.acknowledged

    async def _one_stream(self, metadata: tuple[tuple[str, str], ...]) -> None:
        with self._calls.connections.least_busy() as stubs:
            sent = self._session.positions
            call = stubs.likes.RecordLikes(metadata=metadata)
            sending = asyncio.create_task(self._send(call))
            self._moved_s = time.monotonic()
            self._positioned = False
            try:
                while (answer := await self._answer(call)) is not grpc.aio.EOF:
                    self._take(answer)
                await take_position(self._session, sent, call)
                self._positioned = not self._items
            finally:
                sending.cancel()
                call.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, call: Any) -> None:
        following = self.acknowledged + 1
        while True:
            start = following - self.acknowledged - 1
            likes = list(islice(self._items, start, start + _MESSAGE_ITEMS_MAX))
            if likes:
                following += len(likes)
                await call.write(pb.RecordLikesRequest(request_id=self._request_id, likes=likes))
            elif self._closing:
                await call.done_writing()
                return
            else:
                self._work.clear()
                await self._work.wait()

    async def _answer(self, call: Any) -> Any:
        reading = asyncio.ensure_future(call.read())
        try:
            while not reading.done():
                await asyncio.wait((reading,), timeout=_LOOK_S)
                silent = time.monotonic() - self._moved_s >= ATTEMPT_S
                if silent and not reading.done() and (self._items or self._closing):
                    raise grpc.aio.AioRpcError(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        grpc.aio.Metadata(),
                        grpc.aio.Metadata(),
                        details="nothing was acknowledged",
                    )
            return reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _take(self, answer: pb.RecordLikesResponse) -> None:
        while self._items and self._items[0].sequence <= answer.acknowledged_sequence:
            self._items.popleft()
            self.acknowledged += 1
        self._moved_s = time.monotonic()
        self._tries.progressed()
        self._room.set()
        if self._told_refused:
            for refused in answer.refused:
                self._told_refused(refused)
