"""The RPCs of one's own account, as calls that a test may await or expect to be refused."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from social.v1 import (
    comments_pb2,
    comments_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    follows_pb2,
    follows_pb2_grpc,
    likes_pb2,
    likes_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
)
from social.v1 import users_pb2 as pb
from tests.serving import PASSWORD, Person, World, new_request_id, refusal

OTHER = "another horse"
Metadata = tuple[tuple[str, str], ...]


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def log_in(world: World, handle: str, password: str = PASSWORD) -> Any:
    return world.users.LogIn(pb.LogInRequest(handle=handle, password=password))


def refresh(world: World, token: str) -> Any:
    return world.users.RefreshToken(pb.RefreshTokenRequest(refresh_token=token))


def log_out(world: World, metadata: Metadata, *, all_sessions: bool = False) -> Any:
    request = pb.LogOutRequest(request_id=new_request_id(), all_sessions=all_sessions)
    return world.users.LogOut(request, metadata=metadata)


def change_password(world: World, metadata: Metadata, new: str, old: str = PASSWORD) -> Any:
    request = pb.ChangePasswordRequest(
        request_id=new_request_id(), old_password=old, new_password=new
    )
    return world.users.ChangePassword(request, metadata=metadata)


def deactivate(world: World, metadata: Metadata) -> Any:
    request = pb.DeactivateUserRequest(request_id=new_request_id())
    return world.users.DeactivateUser(request, metadata=metadata)


def reactivate(world: World, metadata: Metadata) -> Any:
    request = pb.ReactivateUserRequest(request_id=new_request_id())
    return world.users.ReactivateUser(request, metadata=metadata)


def rename(world: World, who: Person, handle: str, request_id: str | None = None) -> Any:
    request = pb.ChangeHandleRequest(request_id=request_id or new_request_id(), handle=handle)
    return world.users.ChangeHandle(request, metadata=who.metadata)


async def found(world: World, metadata: Metadata, *handles: str, ids: Any = ()) -> list[str]:
    """The handles under which these are shown."""
    request = pb.GetUsersRequest(handles=handles, user_ids=ids)
    return [user.handle for user in (await world.users.GetUsers(request, metadata=metadata)).users]


async def opens(world: World, token: str) -> str:
    """Why this access token does not open GetUsers; empty when it does."""
    asked = pb.GetUsersRequest(user_ids=[1])
    try:
        await world.users.GetUsers(asked, metadata=bearer(token))
    except grpc.aio.AioRpcError:
        return (await refusal(world.users.GetUsers(asked, metadata=bearer(token)))).reason
    return ""


async def reason(call: Any) -> str:
    return (await refusal(call)).reason


def before(
    patched: pytest.MonkeyPatch, of: object, method: str, first: Callable[[], Awaitable[Any]]
) -> None:
    """The next call of this method waits until `first` has been done; later ones do not."""
    right, calls = getattr(of, method), 0

    async def late(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await first()
        return await right(*arguments)

    patched.setattr(of, method, late)


def calls_of_every_service(world: World, metadata: Metadata) -> list[Any]:
    channel = world.channel
    stubs: list[tuple[Any, Any]] = [
        (
            media_pb2_grpc.MediaServiceStub(channel).GetMedia,
            media_pb2.GetMediaRequest(media_ids=[1]),
        ),
        (
            follows_pb2_grpc.FollowsServiceStub(channel).ListFollowers,
            follows_pb2.ListFollowersRequest(user_id=1),
        ),
        (
            likes_pb2_grpc.LikesServiceStub(channel).ListLikers,
            likes_pb2.ListLikersRequest(media_id=1),
        ),
        (
            comments_pb2_grpc.CommentsServiceStub(channel).ListComments,
            comments_pb2.ListCommentsRequest(media_id=1),
        ),
        (feed_pb2_grpc.FeedServiceStub(channel).GetFeed, feed_pb2.GetFeedRequest()),
        (world.users.GetUsers, pb.GetUsersRequest(user_ids=[1])),
    ]
    calls = [rpc(request, metadata=metadata) for rpc, request in stubs]
    return [*calls, deactivate(world, metadata), change_password(world, metadata, OTHER)]
