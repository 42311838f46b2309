"""How every call is made: its turn, fresh tokens, attempts within a deadline, positions.

UNAVAILABLE and DEADLINE_EXCEEDED are tried again with back-off and jitter, RESOURCE_EXHAUSTED
after as long as the server says, an expired access token once with a new one; always with the
same message, so a write keeps its request_id. A write of which an attempt may have been done, and
that then comes to no clear end, is OutcomeUnknown. Other refusals are the error that the server
meant, by its last answer.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc

from millrace.client.connections import Connections, Stubs
from millrace.client.refusals import details_of, error_of, is_passing, may_be_done
from millrace.client.session import Edge, Session, take_position
from millrace.errors import StoreUnavailable
from social.v1 import users_pb2

# Shorter than a call's deadline, so that a server that hangs leaves time for another.
ATTEMPT_S = 7.0
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0

Q = TypeVar("Q")
R = TypeVar("R")

# Picks the RPC: `lambda stubs: stubs.likes.LikeMedia`.
Unary = Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Q, R]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """`session`'s metadata and the seconds are what the RPC is called with."""

    stubs: Stubs
    timeout_s: float
    metadata: tuple[tuple[str, str], ...]


def new_request_id() -> str:
    return str(uuid.uuid4())


class Tries:
    """The attempts of one call. `unknown`: one of them may have been done."""

    def __init__(
        self, calls: "Calls", session: Session | None, *, write: bool, deadline_s: float
    ) -> None:
        self._calls = calls
        self._session = session
        self._write = write
        self._deadline_s = deadline_s
        self.unknown = False
        self._token = ""
        self.progressed()

    def progressed(self) -> None:
        """As if the call began now."""
        self.ends_s = time.monotonic() + self._deadline_s
        self._backoff_s = _BACKOFF_FIRST_S
        self._renewed = False

    def left_s(self) -> float:
        return max(self.ends_s - time.monotonic(), 0.001)

    async def begin(self) -> tuple[tuple[str, str], ...]:
        """The metadata of the next attempt."""
        if self._session is None:
            return ()
        await self._calls.refresh(self._session)
        self._token = self._session.access_token
        return self._session.metadata()

    async def after(self, refusal: grpc.aio.AioRpcError) -> None:
        """Returns when it is time for the next attempt. Raises the error that the server meant
        when there is none.
        """
        code, details = refusal.code(), details_of(refusal)
        if self._session and details.reason == "TOKEN_EXPIRED" and not self._renewed:
            self._renewed = True
            await self._calls.refresh(self._session, expired=self._token)
            return
        self.unknown |= may_be_done(code)
        pause_s = self._backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads retries
        again = is_passing(code, details)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and details.retry_after_s is not None:
            pause_s, again = max(pause_s, details.retry_after_s), True
        connections = self._calls.connections
        again = again and self._calls.tries_again and not connections.closed
        if again and time.monotonic() + pause_s < self.ends_s:
            self._calls.retries += 1
            await asyncio.sleep(pause_s)
            self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)
            if not connections.closed:
                return
        raise error_of(refusal, unknown=self._write and self.unknown) from None


class Calls:
    """Connections to one address. Closed by `close`, or left as `async with`, after which calls
    that were under way raise OutcomeUnknown or StoreUnavailable; made and used within one running
    event loop. `credentials`: grpc.ssl_channel_credentials(…) for TLS; without, text in the clear.
    Not `tries_again`: a call has one attempt, for those who measure what the server answers.
    """

    def __init__(
        self,
        address: str,
        *,
        connections: int = 4,
        deadline_s: float = 20.0,
        transfer_deadline_s: float = 120.0,
        credentials: grpc.ChannelCredentials | None = None,
        tries_again: bool = True,
    ) -> None:
        self.tries_again = tries_again
        self.connections = Connections(address, connections, credentials)
        self.deadline_s = deadline_s
        self.transfer_deadline_s = transfer_deadline_s
        self.retries = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.connections.close()

    async def call(
        self,
        rpc: Unary[Q, R],
        request: Q,
        session: Session | None = None,
        *,
        edge: Edge | None = None,
    ) -> R:
        """Any unary RPC. Writes on one `edge` of a session go one after another, in the order of
        the calls; all others side by side.
        """
        sent: tuple[str, ...] = ()

        async def once(attempt: Attempt) -> R:
            nonlocal sent
            sent = session.positions if session else ()
            call = rpc(attempt.stubs)(
                request, metadata=attempt.metadata, timeout=min(attempt.timeout_s, ATTEMPT_S)
            )
            response = await call
            await take_position(session, sent, call)
            return response

        return await self.tried_again(once, session, write=_is_write(request), edge=edge)

    async def tried_again(
        self,
        once: Callable[[Attempt], Awaitable[R]],
        session: Session | None = None,
        *,
        write: bool,
        edge: Edge | None = None,
        deadline_s: float | None = None,
    ) -> R:
        """For RPCs that are not unary: `once` makes one attempt."""
        tries = Tries(self, session, write=write, deadline_s=deadline_s or self.deadline_s)
        if session is None or not write:
            return await self._tried_again(once, tries)
        until_s = asyncio.get_running_loop().time() + tries.left_s()
        async with session.writing(edge, until_s):
            return await self._tried_again(once, tries)

    async def _tried_again(self, once: Callable[[Attempt], Awaitable[R]], tries: Tries) -> R:
        while True:
            metadata = await tries.begin()
            try:
                with self.connections.least_busy() as stubs:
                    return await once(Attempt(stubs, tries.left_s(), metadata))
            except grpc.aio.AioRpcError as refused:
                refusal = refused
            await tries.after(refusal)

    async def refresh(self, session: Session | None, *, expired: str = "") -> None:
        """Exchange tokens that expire soon, or the access token that has `expired`; of several
        who want to, one does it.
        """
        if session is None or not session.refresh_token:
            return
        if not session.expires_soon and session.access_token != expired:
            return
        async with session.refreshing:
            if not session.expires_soon and session.access_token != expired:
                return
            request = users_pb2.RefreshTokenRequest(refresh_token=session.refresh_token)

            async def once(attempt: Attempt) -> users_pb2.RefreshTokenResponse:
                timeout_s = min(attempt.timeout_s, ATTEMPT_S)
                return await attempt.stubs.users.RefreshToken(request, timeout=timeout_s)

            # While the token at hand still opens, a call need not fail because of the next one.
            still_opens = time.monotonic() < session.expires_s and session.access_token != expired
            with contextlib.suppress(*((StoreUnavailable,) if still_opens else ())):
                session.take_tokens(await self.tried_again(once, write=False))


def _is_write(request: object) -> bool:
    """Writes, and only they, carry a request_id."""
    return hasattr(request, "request_id")
