"""The RPCs of one's own account, as calls that a test may await or expect to be refused."""

from typing import Any

from social.v1 import users_pb2 as pb
from tests.serving import PASSWORD, Person, World, new_request_id

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
