"""Connections to one address. Each sticks to one server process, so there are several, and the
least busy one takes a call.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from social.v1 import (
    activity_pb2_grpc,
    comments_pb2_grpc,
    feed_pb2_grpc,
    follows_pb2_grpc,
    likes_pb2_grpc,
    media_pb2_grpc,
    users_pb2_grpc,
)


class Stubs:
    """The services over one connection."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.users = users_pb2_grpc.UsersServiceStub(channel)
        self.media = media_pb2_grpc.MediaServiceStub(channel)
        self.follows = follows_pb2_grpc.FollowsServiceStub(channel)
        self.likes = likes_pb2_grpc.LikesServiceStub(channel)
        self.comments = comments_pb2_grpc.CommentsServiceStub(channel)
        self.feed = feed_pb2_grpc.FeedServiceStub(channel)
        self.activity = activity_pb2_grpc.ActivityServiceStub(channel)


class _Connection:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stubs = Stubs(channel)
        self.outstanding = 0


class Connections:
    def __init__(
        self, address: str, count: int, credentials: grpc.ChannelCredentials | None
    ) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]

        def opened() -> grpc.aio.Channel:
            if credentials is None:
                return grpc.aio.insecure_channel(address, options=options)
            return grpc.aio.secure_channel(address, credentials, options=options)

        self._connections = deque(_Connection(opened()) for _ in range(count))

    @contextmanager
    def least_busy(self) -> Iterator[Stubs]:
        """Chance may tie most connections to one process: then the others take more calls."""
        self._connections.rotate(1)
        connection = min(self._connections, key=lambda one: one.outstanding)
        connection.outstanding += 1
        try:
            yield connection.stubs
        finally:
            connection.outstanding -= 1

    async def close(self) -> None:
        await asyncio.gather(*(connection.channel.close() for connection in self._connections))
