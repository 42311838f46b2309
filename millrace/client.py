"""The client's side of the gRPC contract: connections, sessions, retries.

A write keeps its request_id through all retries: the request message is built once. UNAVAILABLE
and DEADLINE_EXCEEDED are tried again within the call's deadline; a write that ends so is
OutcomeUnknown, a read StoreUnavailable. Other codes become the error of `millrace/errors.py` that
the server meant. A connection sticks to one server process, so there are several, and the least
busy one takes the call.

Not: paging, watching, many likes over one stream; one edge's writes in order is the caller's job.
"""

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from millrace import errors
from social.v1 import (
    feed_pb2_grpc,
    follows_pb2_grpc,
    likes_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

POSITION_METADATA = "millrace-position"
UPLOAD_CHUNK_BYTES = 256 * 1024
_REFRESH_BEFORE_S = 30.0
# Shorter than a call's deadline, so that a server that hangs leaves time for another.
_ATTEMPT_S = 7.0
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 1.0

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(slots=True)
class Session:
    """One logged-in user: his tokens and the newest position that his writes answered with."""

    user_id: int
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_s: float  # monotonic
    position: str = ""


class Stubs:
    """The services over one connection."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.users = users_pb2_grpc.UsersServiceStub(channel)
        self.media = media_pb2_grpc.MediaServiceStub(channel)
        self.follows = follows_pb2_grpc.FollowsServiceStub(channel)
        self.likes = likes_pb2_grpc.LikesServiceStub(channel)
        self.feed = feed_pb2_grpc.FeedServiceStub(channel)


class _Connection:
    """A connection sticks to one server process; `outstanding` calls are under way on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stubs = Stubs(channel)
        self.outstanding = 0


# Picks the RPC: `lambda stubs: stubs.likes.LikeMedia`.
Unary = Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Q, R]]


def new_request_id() -> str:
    return str(uuid.uuid4())


class Client:
    """Calls Millrace at one address. Closed by `close`; used within one event loop."""

    def __init__(self, address: str, *, connections: int = 4, deadline_s: float = 20.0) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._connections = deque(
            _Connection(grpc.aio.insecure_channel(address, options=options))
            for _ in range(connections)
        )
        self._deadline_s = deadline_s
        self.retries = 0

    async def close(self) -> None:
        await asyncio.gather(*(connection.channel.close() for connection in self._connections))

    async def register(self, handle: str, password: str, display_name: str = "") -> Session:
        request = users_pb2.RegisterRequest(
            request_id=new_request_id(),
            handle=handle,
            password=password,
            display_name=display_name,
        )
        session = Session(0, "", "", 0.0)
        tokens = await self.call(lambda stubs: stubs.users.Register, request, session)
        _take_tokens(session, tokens)
        return session

    async def log_in(self, handle: str, password: str) -> Session:
        request = users_pb2.LogInRequest(handle=handle, password=password)
        session = Session(0, "", "", 0.0)
        tokens = await self.call(lambda stubs: stubs.users.LogIn, request, session)
        _take_tokens(session, tokens)
        return session

    async def call(self, rpc: Unary[Q, R], request: Q, session: Session | None = None) -> R:
        """One unary RPC, tried again until it is answered or the deadline is over."""
        await self._refresh(session)

        async def once(stubs: Stubs, timeout_s: float) -> R:
            call = rpc(stubs)(request, metadata=_metadata(session), timeout=timeout_s)
            response = await call
            await _take_position(session, call)
            return response

        return await self.tried_again(once, write=_is_write(request))

    async def upload(
        self, session: Session, data: bytes, caption: str = "", *, request_id: str = ""
    ) -> media_pb2.MediaItem:
        """Publish one item; the same request_id publishes it once."""
        await self._refresh(session)
        header = media_pb2.UploadMediaHeader(
            request_id=request_id or new_request_id(), caption=caption, size_bytes=len(data)
        )

        async def once(stubs: Stubs, timeout_s: float) -> media_pb2.MediaItem:
            call = stubs.media.UploadMedia(
                _upload_messages(header, data), metadata=_metadata(session), timeout=timeout_s
            )
            response = await call
            await _take_position(session, call)
            return response.media

        return await self.tried_again(once, write=True)

    async def download(
        self, session: Session, media_id: int
    ) -> tuple[media_pb2.DownloadMediaHeader, bytes]:
        """An item's bytes as stored, behind what describes them."""
        await self._refresh(session)
        request = media_pb2.DownloadMediaRequest(media_id=media_id)

        async def once(
            stubs: Stubs, timeout_s: float
        ) -> tuple[media_pb2.DownloadMediaHeader, bytes]:
            header, chunks = media_pb2.DownloadMediaHeader(), []
            call = stubs.media.DownloadMedia(
                request, metadata=_metadata(session), timeout=timeout_s
            )
            async for message in call:
                if message.WhichOneof("part") == "header":
                    header = message.header
                else:
                    chunks.append(message.chunk)
            return header, b"".join(chunks)

        return await self.tried_again(once, write=False)

    async def _refresh(self, session: Session | None) -> None:
        """Exchange tokens that expire soon; concurrent exchanges of one token agree."""
        if session is None or not session.access_token:
            return
        if time.monotonic() < session.expires_s - _REFRESH_BEFORE_S:
            return
        request = users_pb2.RefreshTokenRequest(refresh_token=session.refresh_token)

        async def once(stubs: Stubs, timeout_s: float) -> users_pb2.RefreshTokenResponse:
            return await stubs.users.RefreshToken(request, timeout=timeout_s)

        _take_tokens(session, await self.tried_again(once, write=False))

    async def tried_again(self, once: Callable[[Stubs, float], Awaitable[R]], *, write: bool) -> R:
        """For RPCs that have no method here: `once` makes one attempt with these seconds."""
        ends_s = time.monotonic() + self._deadline_s
        backoff_s = _BACKOFF_FIRST_S
        while True:
            connection = self._least_busy()
            connection.outstanding += 1
            try:
                left_s = max(ends_s - time.monotonic(), 0.001)
                return await once(connection.stubs, min(left_s, _ATTEMPT_S))
            except grpc.aio.AioRpcError as refusal:
                pause_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads retries
                over = time.monotonic() + pause_s >= ends_s
                if over or refusal.code() not in _TRIED_AGAIN:
                    raise error_of(refusal, write=write) from None
            finally:
                connection.outstanding -= 1
            self.retries += 1
            await asyncio.sleep(pause_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)

    def _least_busy(self) -> _Connection:
        """Chance may tie most connections to one process: then the others take more calls."""
        self._connections.rotate(1)
        return min(self._connections, key=lambda connection: connection.outstanding)


_TRIED_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_ERRORS: dict[grpc.StatusCode, type[errors.MillraceError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.UNAVAILABLE: errors.StoreUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.StoreUnavailable,
}


def error_of(refusal: grpc.aio.AioRpcError, *, write: bool) -> errors.MillraceError:
    """The error that the server meant, with its reason."""
    kind = _ERRORS.get(refusal.code(), errors.MillraceError)
    if write and refusal.code() in _TRIED_AGAIN:
        kind = errors.OutcomeUnknown
    text = f"{refusal.code().name}: {refusal.details() or 'no message'}"
    return kind(text, reason=_reason(refusal))


def _reason(refusal: grpc.aio.AioRpcError) -> str | None:
    for key, value in refusal.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return None


def _metadata(session: Session | None) -> tuple[tuple[str, str], ...]:
    if session is None:
        return ()
    bearer = (("authorization", f"Bearer {session.access_token}"),) if session.access_token else ()
    position = ((POSITION_METADATA, session.position),) if session.position else ()
    return bearer + position


async def _take_position(session: Session | None, call: Any) -> None:
    if session is None:
        return
    for key, value in await call.trailing_metadata() or ():
        if key == POSITION_METADATA:
            session.position = value


def _take_tokens(
    session: Session,
    tokens: users_pb2.RegisterResponse | users_pb2.LogInResponse | users_pb2.RefreshTokenResponse,
) -> None:
    session.user_id = tokens.user_id
    session.access_token = tokens.access_token
    session.refresh_token = tokens.refresh_token
    session.expires_s = time.monotonic() + tokens.expires_in_s


def _is_write(request: object) -> bool:
    """Writes, and only they, carry a request_id."""
    return hasattr(request, "request_id")


async def _upload_messages(
    header: media_pb2.UploadMediaHeader, data: bytes
) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    yield media_pb2.UploadMediaRequest(header=header)
    for start in range(0, len(data), UPLOAD_CHUNK_BYTES):
        yield media_pb2.UploadMediaRequest(chunk=data[start : start + UPLOAD_CHUNK_BYTES])
