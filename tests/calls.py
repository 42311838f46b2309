"""For each RPC that is served a call of it, and how its effect is seen: `WRITES` and `READS` by
"Service/Rpc". The guarantees are tried with them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from millrace.relations import View
from millrace.views import comments, follows, likes, media, saves, users, vault
from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)
from tests.scenes import Scene, code_of, holder, item, texts, unpositioned, upload, user
from tests.serving import PASSWORD, Person
from tests.serving import new_request_id as _id

NEW_PASSWORD = "battery staple"

# --- writes ---------------------------------------------------------------------------------

Probe = Callable[[Scene, Person], Awaitable[bool]]
Step = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Write:
    """`shown(scene, viewer)`: whether a read shows exactly its effect, once. `view`: which one
    holds it. `before`: what must be so first. `actor`: "ana", "ben", or "" for nobody.
    """

    actor: str
    request: Callable[[Scene], Any]
    shown: Probe
    view: View
    before: Step | None = None

    def who(self, scene: Scene) -> Person | None:
        return getattr(scene, self.actor) if self.actor else None


async def _opens(scene: Scene, password: str) -> bool:
    code = await code_of(scene.log_in(scene.ana, password))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK


async def _deactivated(scene: Scene) -> None:
    request = users_pb2.DeactivateUserRequest(request_id=_id())
    await scene.ask("UsersService/DeactivateUser", request, scene.ana)
    scene.ana = unpositioned(await scene.log_in(scene.ana))


async def _liked(scene: Scene) -> None:
    request = likes_pb2.LikeMediaRequest(request_id=_id(), media_id=scene.item)
    scene.ben = await scene.write("LikesService/LikeMedia", request, scene.ben)
    await scene.world.process_all()


async def _saved(scene: Scene) -> None:
    request = saves_pb2.SaveMediaRequest(request_id=_id(), media_id=scene.item)
    scene.ben = await scene.write("SavesService/SaveMedia", request, scene.ben)
    await scene.world.process_all()


async def _followed(scene: Scene) -> None:
    request = follows_pb2.FollowRequest(request_id=_id(), user_id=scene.ana.user_id)
    scene.ben = await scene.write("FollowsService/Follow", request, scene.ben)
    await scene.world.process_all()


async def _registered(scene: Scene, viewer: Person) -> bool:
    return await holder(scene, scene.made["handle"], viewer) != 0


async def _renamed(scene: Scene, viewer: Person) -> bool:
    found = [await holder(scene, name, viewer) for name in (scene.made["handle"], scene.ana.handle)]
    return found == [scene.ana.user_id, 0]


async def _gone(scene: Scene, viewer: Person) -> bool:
    if viewer.user_id == scene.ana.user_id:
        return (await scene.log_in(scene.ana)) is not None
    shown = await user(scene, scene.ana.user_id, viewer), await item(scene, viewer)
    return shown == (None, None)


async def _back(scene: Scene, viewer: Person) -> bool:
    return await user(scene, scene.ana.user_id, viewer) is not None


async def _logged_out(scene: Scene, _viewer: Person) -> bool:
    code = await code_of(user(scene, scene.ana.user_id, unpositioned(scene.ana)))
    return code is grpc.StatusCode.UNAUTHENTICATED


async def _password_changed(scene: Scene, viewer: Person) -> bool:
    opened = await _opens(scene, NEW_PASSWORD) and not await _opens(scene, PASSWORD)
    return opened and await _logged_out(scene, viewer)


async def _profiled(scene: Scene, viewer: Person) -> bool:
    shown = await user(scene, scene.ana.user_id, viewer)
    return bool(shown.bio == "I swim" and shown.display_name == "Ana")


async def _published(scene: Scene, viewer: Person) -> bool:
    request = media_pb2.ListUserMediaRequest(user_id=scene.ana.user_id)
    listed = (await scene.ask("MediaService/ListUserMedia", request, viewer)).only.items
    count = (await user(scene, scene.ana.user_id, viewer)).media_count
    return [one.caption for one in listed] == ["hill", "sea"] and count == 2


async def _captioned(scene: Scene, viewer: Person) -> bool:
    return bool((await item(scene, viewer)).caption == "lake")


async def _deleted(scene: Scene, viewer: Person) -> bool:
    return (
        await item(scene, viewer) is None
        and (await user(scene, scene.ana.user_id, viewer)).media_count == 0
    )


def _follows(followers: int) -> Probe:
    async def shown(scene: Scene, viewer: Person) -> bool:
        request = follows_pb2.ListFollowersRequest(user_id=scene.ana.user_id)
        listed = (await scene.ask("FollowsService/ListFollowers", request, viewer)).only.users
        count = (await user(scene, scene.ana.user_id, viewer)).followers_count
        return [one.id for one in listed] == [scene.ben.user_id] * followers and count == followers

    return shown


def _likes(likers: int) -> Probe:
    async def shown(scene: Scene, viewer: Person) -> bool:
        request = likes_pb2.ListLikersRequest(media_id=scene.item)
        listed = (await scene.ask("LikesService/ListLikers", request, viewer)).only.users
        count = (await item(scene, viewer)).likes_count
        return [one.id for one in listed] == [scene.ben.user_id] * likers and count == likers

    return shown


def _saves(saved: int) -> Probe:
    async def shown(scene: Scene, _viewer: Person) -> bool:
        """Only who saves sees it."""
        viewer, request = unpositioned(scene.ben), saves_pb2.ListSavedRequest()
        listed = (await scene.ask("SavesService/ListSaved", request, viewer)).only
        ids = [one.id for one in listed.items]
        return ids == [scene.item] * saved and listed.saves_count == saved

    return shown


def _comments(*expected: str) -> Probe:
    async def shown(scene: Scene, viewer: Person) -> bool:
        count = (await item(scene, viewer)).comments_count
        return await texts(scene, viewer) == [*expected] and count == len(expected)

    return shown


def _handle(scene: Scene) -> str:
    handle: str = scene.made.setdefault("handle", f"d.{_id()[:8]}")
    return handle


WRITES: dict[str, Write] = {
    "UsersService/Register": Write(
        "",
        lambda s: users_pb2.RegisterRequest(
            request_id=_id(), handle=_handle(s), password=PASSWORD, display_name="Dora"
        ),
        _registered,
        users.VIEW,
    ),
    "UsersService/UpdateProfile": Write(
        "ana",
        lambda _: users_pb2.UpdateProfileRequest(
            request_id=_id(), display_name="Ana", bio="I swim"
        ),
        _profiled,
        users.VIEW,
    ),
    "UsersService/ChangeHandle": Write(
        "ana",
        lambda s: users_pb2.ChangeHandleRequest(request_id=_id(), handle=_handle(s)),
        _renamed,
        users.VIEW,
    ),
    "UsersService/DeactivateUser": Write(
        "ana", lambda _: users_pb2.DeactivateUserRequest(request_id=_id()), _gone, vault.VIEW
    ),
    "UsersService/ReactivateUser": Write(
        "ana",
        lambda _: users_pb2.ReactivateUserRequest(request_id=_id()),
        _back,
        users.VIEW,
        _deactivated,
    ),
    "UsersService/LogOut": Write(
        "ana", lambda _: users_pb2.LogOutRequest(request_id=_id()), _logged_out, vault.VIEW
    ),
    "UsersService/ChangePassword": Write(
        "ana",
        lambda _: users_pb2.ChangePasswordRequest(
            request_id=_id(), old_password=PASSWORD, new_password=NEW_PASSWORD
        ),
        _password_changed,
        vault.VIEW,
    ),
    "MediaService/UploadMedia": Write("ana", lambda _: upload("hill"), _published, media.VIEW),
    "MediaService/EditCaption": Write(
        "ana",
        lambda s: media_pb2.EditCaptionRequest(request_id=_id(), media_id=s.item, caption="lake"),
        _captioned,
        media.VIEW,
    ),
    "MediaService/DeleteMedia": Write(
        "ana",
        lambda s: media_pb2.DeleteMediaRequest(request_id=_id(), media_id=s.item),
        _deleted,
        media.VIEW,
    ),
    "FollowsService/Follow": Write(
        "ben",
        lambda s: follows_pb2.FollowRequest(request_id=_id(), user_id=s.ana.user_id),
        _follows(1),
        follows.VIEW,
    ),
    "FollowsService/Unfollow": Write(
        "ben",
        lambda s: follows_pb2.UnfollowRequest(request_id=_id(), user_id=s.ana.user_id),
        _follows(0),
        follows.VIEW,
        _followed,
    ),
    "LikesService/LikeMedia": Write(
        "ben",
        lambda s: likes_pb2.LikeMediaRequest(request_id=_id(), media_id=s.item),
        _likes(1),
        likes.VIEW,
    ),
    "LikesService/UnlikeMedia": Write(
        "ben",
        lambda s: likes_pb2.UnlikeMediaRequest(request_id=_id(), media_id=s.item),
        _likes(0),
        likes.VIEW,
        _liked,
    ),
    "LikesService/RecordLikes": Write(
        "ben",
        lambda s: [
            likes_pb2.RecordLikesRequest(
                request_id=_id(), likes=[likes_pb2.RecordedLike(sequence=1, media_id=s.item)]
            )
        ],
        _likes(1),
        likes.VIEW,
    ),
    "SavesService/SaveMedia": Write(
        "ben",
        lambda s: saves_pb2.SaveMediaRequest(request_id=_id(), media_id=s.item),
        _saves(1),
        saves.VIEW,
    ),
    "SavesService/UnsaveMedia": Write(
        "ben",
        lambda s: saves_pb2.UnsaveMediaRequest(request_id=_id(), media_id=s.item),
        _saves(0),
        saves.VIEW,
        _saved,
    ),
    "CommentsService/AddComment": Write(
        "ben",
        lambda s: comments_pb2.AddCommentRequest(request_id=_id(), media_id=s.item, text="wow"),
        _comments("wow", "fine"),
        comments.VIEW,
    ),
    "CommentsService/DeleteComment": Write(
        "ana",
        lambda s: comments_pb2.DeleteCommentRequest(
            request_id=_id(), media_id=s.item, comment_id=s.comment
        ),
        _comments(),
        comments.VIEW,
    ),
}


# --- reads ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """`by`: a write of the reader whose effect it shows, and `view` holds. `shows(answer, scene)`:
    whether it does. `owned`: it hides with Ana, whose things it reads, and so answers NOT_FOUND
    ("refuses"), or leaves them out ("leaves out").
    """

    request: Callable[[Scene], Any]
    by: str
    shows: Callable[[Any, Scene], bool]
    owned: str


READS: dict[str, Read] = {
    "UsersService/GetUsers": Read(
        lambda s: users_pb2.GetUsersRequest(user_ids=[s.ana.user_id]),
        "FollowsService/Follow",
        lambda answer, _: answer.users[0].followers_count == 1,
        "leaves out",
    ),
    "MediaService/GetMedia": Read(
        lambda s: media_pb2.GetMediaRequest(media_ids=[s.item]),
        "LikesService/LikeMedia",
        lambda answer, _: answer.items[0].viewer_likes and answer.items[0].likes_count == 1,
        "leaves out",
    ),
    "MediaService/ListUserMedia": Read(
        lambda s: media_pb2.ListUserMediaRequest(user_id=s.ana.user_id),
        "LikesService/LikeMedia",
        lambda answer, _: answer.items[0].viewer_likes,
        "refuses",
    ),
    "FollowsService/ListFollowers": Read(
        lambda s: follows_pb2.ListFollowersRequest(user_id=s.ana.user_id),
        "FollowsService/Follow",
        lambda answer, s: [one.id for one in answer.users] == [s.ben.user_id],
        "refuses",
    ),
    "FollowsService/ListFollowing": Read(
        lambda s: follows_pb2.ListFollowingRequest(user_id=s.ben.user_id),
        "FollowsService/Follow",
        lambda answer, s: [one.id for one in answer.users] == [s.ana.user_id],
        "leaves out",
    ),
    "LikesService/ListLikers": Read(
        lambda s: likes_pb2.ListLikersRequest(media_id=s.item),
        "LikesService/LikeMedia",
        lambda answer, s: [one.id for one in answer.users] == [s.ben.user_id],
        "refuses",
    ),
    "CommentsService/ListComments": Read(
        lambda s: comments_pb2.ListCommentsRequest(media_id=s.item),
        "CommentsService/DeleteComment",
        lambda answer, _: not answer.comments,
        "refuses",
    ),
    "SavesService/ListSaved": Read(
        lambda _: saves_pb2.ListSavedRequest(),
        "SavesService/SaveMedia",
        lambda answer, s: [one.id for one in answer.items] == [s.item],
        "leaves out",
    ),
    "FeedService/GetFeed": Read(
        lambda _: feed_pb2.GetFeedRequest(),
        "FollowsService/Follow",
        lambda answer, s: [one.id for one in answer.items] == [s.item],
        "leaves out",
    ),
}
