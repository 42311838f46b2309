"""What docs/guarantees.md says of every write: answers, repetitions, time-outs, order, privacy.

Each test runs for each RPC of its kind (`CONTRACT` of test_protos says which that is).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from millrace.errors import OutcomeUnknown
from millrace.log.port import Appended
from millrace.relations import View
from services.call import Call
from social.v1 import comments_pb2, follows_pb2, likes_pb2, media_pb2, saves_pb2, users_pb2
from tests.calls import WRITES, Write
from tests.contract.test_protos import CONTRACT
from tests.scenes import Scene, code_of, scene_in, unpositioned, upload
from tests.serving import World, new_request_id, refusal, serving

CREATES = [rpc for rpc in WRITES if CONTRACT[rpc] == "creates"]
SETS = [rpc for rpc in WRITES if CONTRACT[rpc] == "sets"]
HIDES = [rpc for rpc in WRITES if CONTRACT[rpc] == "hides"]
# Becoming private is what hides; what it does else is set like any other profile.
SETS.append("UsersService/UpdateProfile")
HIDES.remove("UsersService/UpdateProfile")
# Answer when the view has it, as their comments in the protos say.
SETS.remove("UsersService/ReactivateUser")
CREATES.append("UsersService/ReactivateUser")


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with serving() as served:
        yield served


@asynccontextmanager
async def late(world: World, view: View) -> AsyncIterator[None]:
    """The view is held, and calls have a moment left to wait for it."""
    await world.hold(view)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Call, "left_s", lambda _: 0.1)
            yield
    finally:
        world.release(view)


async def prepared(world: World, rpc: str) -> tuple[Scene, Write]:
    scene, write = await scene_in(world), WRITES[rpc]
    await world.process_all()
    if write.before:
        await write.before(scene)
    return scene, write


@pytest.mark.parametrize("rpc", CREATES)
async def test_an_answer_says_that_the_view_has_it(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    await scene.ask(rpc, write.request(scene), write.who(scene))
    assert await write.shown(scene, unpositioned(scene.cem))


@pytest.mark.parametrize("rpc", SETS)
async def test_an_answer_says_that_the_log_has_it(world: World, rpc: str) -> None:
    """Though the view is held; and when it goes on, it has it."""
    scene, write = await prepared(world, rpc)
    await world.hold(write.view)
    try:
        await scene.ask(rpc, write.request(scene), write.who(scene))
    finally:
        world.release(write.view)
    await world.process_all()
    assert await write.shown(scene, unpositioned(scene.cem))


@pytest.mark.parametrize("rpc", HIDES)
async def test_an_answer_says_that_nobody_sees_it_any_more(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    answer = await scene.ask(rpc, write.request(scene), write.who(scene))
    assert not answer.only.pending
    assert await write.shown(scene, unpositioned(scene.cem))


@pytest.mark.parametrize("rpc", HIDES)
async def test_a_privacy_write_that_waits_for_a_view_is_pending(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    async with late(world, write.view):
        answer = await scene.ask(rpc, write.request(scene), write.who(scene))
    assert answer.only.pending
    await world.process_all()
    assert await write.shown(scene, unpositioned(scene.cem))


@pytest.mark.parametrize("rpc", CREATES)
async def test_a_creation_that_the_view_has_late_is_unknown_until_a_retry(
    world: World, rpc: str
) -> None:
    scene, write = await prepared(world, rpc)
    request = write.request(scene)
    async with late(world, write.view):
        refused = await refusal(scene.ask(rpc, request, write.who(scene)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    await world.process_all()
    await scene.ask(rpc, request, write.who(scene))
    assert await write.shown(scene, unpositioned(scene.cem))


class Failing:
    """The log fails at append number `at`, before or after it has written."""

    def __init__(self, world: World, *, written: bool, at: int) -> None:
        self._append = world.log.append
        self._written, self._at = written, at
        self.appends = 0
        self.failed = False

    async def __call__(self, *args: Any, **kwargs: Any) -> Appended:
        self.appends += 1
        fails = self.appends - 1 == self._at
        if fails and not self._written:
            self.failed = True
            raise OutcomeUnknown("not written")
        appended = await self._append(*args, **kwargs)
        if fails:
            self.failed = True
            raise OutcomeUnknown("written")
        return appended


@pytest.mark.parametrize("written", [False, True], ids=["not written", "written"])
@pytest.mark.parametrize("rpc", WRITES)
async def test_a_time_out_means_unknown_and_a_retry_does_it_once(
    world: World, monkeypatch: pytest.MonkeyPatch, rpc: str, written: bool
) -> None:
    """At each of its appends: the same message again, and it has happened once."""
    at = 0
    while True:
        scene, write = await prepared(world, rpc)
        request, failing = write.request(scene), Failing(world, written=written, at=at)
        with monkeypatch.context() as patched:
            patched.setattr(world.log, "append", failing)
            code = await code_of(scene.ask(rpc, request, write.who(scene)))
        if not failing.failed:
            break
        assert code is grpc.StatusCode.UNAVAILABLE
        await world.process_all()
        await retried(scene, rpc, request)
        await world.process_all()
        assert await write.shown(scene, unpositioned(scene.cem)), f"append {at}"
        at += 1
    assert at, "it writes nothing"


async def retried(scene: Scene, rpc: str, request: Any) -> None:
    """As a client does: the same message; who finds his session ended logs in if he wants to."""
    code = await code_of(scene.ask(rpc, request, WRITES[rpc].who(scene)))
    ends_his_session = rpc in ("UsersService/ChangePassword", "UsersService/DeactivateUser")
    allowed = {grpc.StatusCode.OK, *([grpc.StatusCode.UNAUTHENTICATED] if ends_his_session else ())}
    assert code in allowed


@pytest.mark.parametrize("rpc", [rpc for rpc in WRITES if rpc != "UsersService/ChangePassword"])
async def test_the_same_request_again_changes_nothing(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    request = write.request(scene)
    await scene.ask(rpc, request, write.who(scene))
    await world.process_all()
    await retried(scene, rpc, request)
    await world.process_all()
    assert await write.shown(scene, unpositioned(scene.cem))


@pytest.mark.parametrize("rpc", WRITES)
async def test_a_write_answers_a_position_that_covers_it(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    answer = await scene.ask(rpc, write.request(scene), write.who(scene))
    assert answer.position
    assert await write.shown(scene, replace(scene.cem, position=answer.position))


# --- of writes on one edge, and of settings, the last in the log counts ----------------------


def _again(scene: Scene, rpc: str, *, undo: bool) -> tuple[str, Any]:
    """The opposite of an edge's write, or the same with another value."""
    one = new_request_id()
    item, ana = scene.item, scene.ana.user_id
    others: dict[str, tuple[str, Any]] = {
        "LikesService/LikeMedia": (
            "LikesService/UnlikeMedia",
            likes_pb2.UnlikeMediaRequest(request_id=one, media_id=item),
        ),
        "LikesService/UnlikeMedia": (
            "LikesService/LikeMedia",
            likes_pb2.LikeMediaRequest(request_id=one, media_id=item),
        ),
        "LikesService/RecordLikes": (
            "LikesService/UnlikeMedia",
            likes_pb2.UnlikeMediaRequest(request_id=one, media_id=item),
        ),
        "SavesService/SaveMedia": (
            "SavesService/UnsaveMedia",
            saves_pb2.UnsaveMediaRequest(request_id=one, media_id=item),
        ),
        "SavesService/UnsaveMedia": (
            "SavesService/SaveMedia",
            saves_pb2.SaveMediaRequest(request_id=one, media_id=item),
        ),
        "FollowsService/Follow": (
            "FollowsService/Unfollow",
            follows_pb2.UnfollowRequest(request_id=one, user_id=ana),
        ),
        "FollowsService/Unfollow": (
            "FollowsService/Follow",
            follows_pb2.FollowRequest(request_id=one, user_id=ana),
        ),
        "UsersService/UpdateProfile": (
            "UsersService/UpdateProfile",
            users_pb2.UpdateProfileRequest(request_id=one, bio="I ran"),
        ),
        "MediaService/EditCaption": (
            "MediaService/EditCaption",
            media_pb2.EditCaptionRequest(request_id=one, media_id=item, caption="pond"),
        ),
    }
    return others[rpc] if undo else (rpc, WRITES[rpc].request(scene))


@pytest.mark.parametrize("rpc", SETS)
async def test_the_last_in_the_log_counts(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    for undo in (False, True, False):
        name, request = _again(scene, rpc, undo=undo)
        await scene.ask(name, request, write.who(scene))
    await world.process_all()
    assert await write.shown(scene, unpositioned(scene.cem))
    name, request = _again(scene, rpc, undo=True)
    await scene.ask(name, request, write.who(scene))
    await world.process_all()
    assert not await write.shown(scene, unpositioned(scene.cem))


# --- privacy --------------------------------------------------------------------------------


def _on(scene: Scene) -> dict[str, Any]:
    """Writes on what is Ana's."""
    item, one = scene.item, new_request_id()
    return {
        "MediaService/EditCaption": media_pb2.EditCaptionRequest(request_id=one, media_id=item),
        "MediaService/DeleteMedia": media_pb2.DeleteMediaRequest(request_id=one, media_id=item),
        "FollowsService/Follow": follows_pb2.FollowRequest(
            request_id=one, user_id=scene.ana.user_id
        ),
        "FollowsService/Unfollow": follows_pb2.UnfollowRequest(
            request_id=one, user_id=scene.ana.user_id
        ),
        "LikesService/LikeMedia": likes_pb2.LikeMediaRequest(request_id=one, media_id=item),
        "LikesService/UnlikeMedia": likes_pb2.UnlikeMediaRequest(request_id=one, media_id=item),
        "SavesService/SaveMedia": saves_pb2.SaveMediaRequest(request_id=one, media_id=item),
        "SavesService/UnsaveMedia": saves_pb2.UnsaveMediaRequest(request_id=one, media_id=item),
        "CommentsService/AddComment": comments_pb2.AddCommentRequest(
            request_id=one, media_id=item, text="wow"
        ),
        "CommentsService/DeleteComment": comments_pb2.DeleteCommentRequest(
            request_id=one, media_id=item, comment_id=scene.comment
        ),
    }


ON_OTHERS = (
    "MediaService/EditCaption",
    "MediaService/DeleteMedia",
    "FollowsService/Follow",
    "FollowsService/Unfollow",
    "LikesService/LikeMedia",
    "LikesService/UnlikeMedia",
    "SavesService/SaveMedia",
    "SavesService/UnsaveMedia",
    "CommentsService/AddComment",
    "CommentsService/DeleteComment",
)


@pytest.mark.parametrize("rpc", ON_OTHERS)
async def test_what_the_actor_may_not_see_is_not_found_and_stays(world: World, rpc: str) -> None:
    """Cem acts on what is Ana's while she is away."""
    scene = await scene_in(world)
    gone = users_pb2.DeactivateUserRequest(request_id=new_request_id())
    await scene.ask("UsersService/DeactivateUser", gone, scene.ana)
    before = await ends(world)
    refused = await refusal(scene.ask(rpc, _on(scene)[rpc], scene.cem))
    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert await ends(world) == before


async def ends(world: World) -> dict[str, Any]:
    """Of the topics that hold what users write about each other's."""
    topics = ("media", "follows", "likes", "comments", "saves")
    return {topic: await world.log.ends(topic) for topic in topics}


async def test_a_recorded_like_of_what_is_hidden_is_refused_with_its_number(world: World) -> None:
    scene = await scene_in(world)
    gone = users_pb2.DeactivateUserRequest(request_id=new_request_id())
    await scene.ask("UsersService/DeactivateUser", gone, scene.ana)
    request = WRITES["LikesService/RecordLikes"].request(scene)
    answer = await scene.ask("LikesService/RecordLikes", request, scene.cem)
    refused = [one for message in answer.messages for one in message.refused]
    assert [(one.sequence, one.code) for one in refused] == [(1, 5)]
    assert answer.messages[-1].acknowledged_sequence == 1


@pytest.mark.parametrize(
    "rpc",
    ["MediaService/EditCaption", "MediaService/DeleteMedia", "CommentsService/DeleteComment"],
)
async def test_what_the_actor_sees_and_may_not_change_is_denied(world: World, rpc: str) -> None:
    scene = await scene_in(world)
    before = await ends(world)
    refused = await refusal(scene.ask(rpc, _on(scene)[rpc], scene.cem))
    assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert await ends(world) == before


@pytest.mark.parametrize("rpc", ["MediaService/UploadMedia", "CommentsService/AddComment"])
async def test_another_body_under_a_request_id_is_refused(world: World, rpc: str) -> None:
    scene, write = await prepared(world, rpc)
    request = write.request(scene)
    await scene.ask(rpc, request, write.who(scene))
    if isinstance(request, list):
        other: Any = upload("dale")
        other[0].header.request_id = request[0].header.request_id
    else:
        other = type(request)()
        other.CopyFrom(request)
        other.text = "another"
    refused = await refusal(scene.ask(rpc, other, write.who(scene)))
    assert (refused.code.name, refused.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
