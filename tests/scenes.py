"""A small cast for tests of RPCs, and how it reads. A scene has new people, so that many share one
world. `tests/calls.py` has a call of each RPC.
"""

import io
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message import Message
from PIL import Image

from social.v1 import (
    comments_pb2,
    comments_pb2_grpc,
    feed_pb2_grpc,
    follows_pb2_grpc,
    likes_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    saves_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from tests.serving import PASSWORD, Person, World, new_request_id, position_of

_STUBS = (
    comments_pb2_grpc,
    feed_pb2_grpc,
    follows_pb2_grpc,
    likes_pb2_grpc,
    media_pb2_grpc,
    saves_pb2_grpc,
    users_pb2_grpc,
)


@dataclass(frozen=True)
class Answer:
    """`messages`: one, or all of a stream. `position`: what trailed it."""

    messages: Sequence[Any]
    position: str

    @property
    def only(self) -> Any:
        (message,) = self.messages
        return message


@dataclass
class Scene:
    """Ana has an item, under which Ben has a comment. Nobody follows or likes yet."""

    world: World
    ana: Person
    ben: Person
    cem: Person
    item: int = 0
    comment: int = 0
    made: dict[str, Any] = field(default_factory=dict)

    async def ask(self, rpc: str, request: Any, who: Person | None = None) -> Answer:
        """`request`: a message, or a list of them for a stream. `who`: his token and position."""
        service, method = rpc.split("/")
        module = next(each for each in _STUBS if hasattr(each, f"{service}Stub"))
        stub: Any = getattr(module, f"{service}Stub")(self.world.channel)
        sent = request if isinstance(request, Message) else _each(request)
        call = getattr(stub, method)(sent, metadata=signed(who))
        if isinstance(call, grpc.aio.UnaryStreamCall | grpc.aio.StreamStreamCall):
            return Answer([message async for message in call], await position_of(call))
        return Answer([await call], await position_of(call))

    async def write(self, rpc: str, request: Any, who: Person) -> Person:
        """The actor, with the position after it."""
        return replace(who, position=(await self.ask(rpc, request, who)).position)

    async def log_in(self, who: Person, password: str = PASSWORD) -> Person:
        request = users_pb2.LogInRequest(handle=who.handle, password=password)
        tokens = (await self.ask("UsersService/LogIn", request)).only
        return replace(who, access_token=tokens.access_token, refresh_token=tokens.refresh_token)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as refused:
        return refused.code()
    return grpc.StatusCode.OK


def signed(who: Person | None) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in who.metadata if pair[1]) if who else ()


def unpositioned(who: Person) -> Person:
    """A client that keeps no position."""
    return replace(who, position="")


async def scene_in(world: World) -> Scene:
    ana, ben, cem = [await world.register(f"{name}.{new_request_id()[:8]}") for name in "abc"]
    scene = Scene(world, ana, ben, cem)
    answer = await scene.ask("MediaService/UploadMedia", upload(), ana)
    scene.item = answer.only.media.id
    said = comments_pb2.AddCommentRequest(
        request_id=new_request_id(), media_id=scene.item, text="fine"
    )
    scene.comment = (await scene.ask("CommentsService/AddComment", said, ben)).only.comment.id
    return scene


def upload(caption: str = "sea") -> list[media_pb2.UploadMediaRequest]:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(out, "PNG")
    data = out.getvalue()
    header = media_pb2.UploadMediaHeader(
        request_id=new_request_id(), caption=caption, size_bytes=len(data)
    )
    return [
        media_pb2.UploadMediaRequest(header=header),
        media_pb2.UploadMediaRequest(chunk=data),
    ]


async def _each(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message


# --- reads of what a write did --------------------------------------------------------------


async def user(scene: Scene, user_id: int, viewer: Person) -> Any:
    """None when he is not shown."""
    request = users_pb2.GetUsersRequest(user_ids=[user_id])
    found = (await scene.ask("UsersService/GetUsers", request, viewer)).only.users
    return found[0] if found else None


async def holder(scene: Scene, handle: str, viewer: Person) -> int:
    """0 when nobody is shown under the handle."""
    request = users_pb2.GetUsersRequest(handles=[handle])
    found = (await scene.ask("UsersService/GetUsers", request, viewer)).only.users
    return found[0].id if found else 0


async def item(scene: Scene, viewer: Person) -> Any:
    request = media_pb2.GetMediaRequest(media_ids=[scene.item])
    found = (await scene.ask("MediaService/GetMedia", request, viewer)).only.items
    return found[0] if found else None


async def texts(scene: Scene, viewer: Person) -> list[str]:
    request = comments_pb2.ListCommentsRequest(media_id=scene.item)
    listed = (await scene.ask("CommentsService/ListComments", request, viewer)).only
    return [comment.text for comment in listed.comments]
