"""Connections to one address. Each sticks to one server process, so there are several, and the
least busy one takes a call. One on which nothing is answered any more, since its process or the
network hangs, is replaced: TCP alone would keep it for a quarter of an hour.

They belong to the event loop that they were made in. What is under way when they are closed fails
with CANCELLED; what is begun then, or in another loop, with RuntimeError.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from millrace.client.refusals import details_of
from social.v1 import (
    activity_pb2_grpc,
    comments_pb2_grpc,
    feed_pb2_grpc,
    follows_pb2_grpc,
    likes_pb2_grpc,
    media_pb2_grpc,
    saves_pb2_grpc,
    users_pb2_grpc,
)

_READY = grpc.ChannelConnectivity.READY
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


class Stubs:
    """The services over one connection."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.users = users_pb2_grpc.UsersServiceStub(channel)
        self.media = media_pb2_grpc.MediaServiceStub(channel)
        self.follows = follows_pb2_grpc.FollowsServiceStub(channel)
        self.likes = likes_pb2_grpc.LikesServiceStub(channel)
        self.comments = comments_pb2_grpc.CommentsServiceStub(channel)
        self.saves = saves_pb2_grpc.SavesServiceStub(channel)
        self.feed = feed_pb2_grpc.FeedServiceStub(channel)
        self.activity = activity_pb2_grpc.ActivityServiceStub(channel)


class _Connection:
    """`suspect`: it replaces one that hung, and is not known to be better."""

    def __init__(self, channel: grpc.aio.Channel, *, suspect: bool = False) -> None:
        self.channel = channel
        self.stubs = Stubs(channel)
        self.outstanding = 0
        self.answered_s = 0.0
        self._suspect = suspect

    @property
    def suspect(self) -> bool:
        self._suspect = self._suspect and self.channel.get_state(try_to_connect=True) is not _READY
        return self._suspect


class Connections:
    def __init__(
        self, address: str, count: int, credentials: grpc.ChannelCredentials | None
    ) -> None:
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._credentials = credentials
        self._connections = deque(_Connection(self._opened()) for _ in range(count))
        self._replaced: set[_Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def _opened(self) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=options)
        return grpc.aio.secure_channel(self._address, self._credentials, options=options)

    @contextmanager
    def least_busy(self) -> Iterator[Stubs]:
        """Chance may tie most connections to one process: then the others take more calls."""
        if self.closed:
            raise RuntimeError("the client is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("a client is used in the event loop that it was made in")
        self._connections.rotate(1)
        connection = min(self._connections, key=lambda one: (one.suspect, one.outstanding))
        connection.outstanding += 1
        began_s = time.monotonic()
        try:
            yield connection.stubs
            connection.answered_s = time.monotonic()
        except grpc.aio.AioRpcError as refusal:
            if details_of(refusal).reason or refusal.code() is not _LATE:
                connection.answered_s = time.monotonic()
            elif connection.answered_s < began_s:
                self._replace(connection)
            raise
        except asyncio.CancelledError:
            if not self.closed or _task_is_cancelled():
                raise
            # gRPC cancels the calls of a closed channel as if the caller had asked for it.
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.CANCELLED,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(),
                details="the client was closed",
            ) from None
        finally:
            connection.outstanding -= 1
            self._let_go(connection)

    def _replace(self, connection: _Connection) -> None:
        """It is closed when its last call has ended."""
        if connection in self._connections and not self.closed:
            self._connections.remove(connection)
            self._connections.append(_Connection(self._opened(), suspect=True))
            self._replaced.add(connection)

    def _let_go(self, connection: _Connection) -> None:
        if connection in self._replaced and not connection.outstanding:
            self._replaced.remove(connection)
            closing = self._loop.create_task(connection.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self.closed = True
        left = (*self._connections, *self._replaced)
        await asyncio.gather(*self._closing, *(one.channel.close() for one in left))


def _task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
