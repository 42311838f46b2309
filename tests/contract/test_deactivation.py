"""Going away and coming back: who is deactivated is hidden, and opens little."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from millrace.views import users
from social.v1 import (
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
from tests.account_calls import (
    OTHER,
    bearer,
    before,
    calls_of_every_service,
    change_password,
    deactivate,
    found,
    log_in,
    log_out,
    opens,
    reactivate,
    reason,
    refresh,
)
from tests.contract.test_media import picture, requests, upload
from tests.serving import PASSWORD, Person, World, new_request_id, refusal, serving


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(apply_wait_s=0.5, privacy_wait_s=0.3) as world:
        yield world


async def drawn(world: World, ben: Person, ana: Person, media_id: int) -> list[Any]:
    """Everything in which Ben may see Ana: empty where he does not."""
    channel, metadata = world.channel, ben.metadata
    feed: Any = feed_pb2_grpc.FeedServiceStub(channel)
    media: Any = media_pb2_grpc.MediaServiceStub(channel)
    follows: Any = follows_pb2_grpc.FollowsServiceStub(channel)
    likes: Any = likes_pb2_grpc.LikesServiceStub(channel)
    mine = media_pb2.ListUserMediaRequest(user_id=ben.user_id)
    item = (await media.ListUserMedia(mine, metadata=metadata)).items[0]
    likers = likes_pb2.ListLikersRequest(media_id=item.id)
    followers = follows_pb2.ListFollowersRequest(user_id=ben.user_id)
    following = follows_pb2.ListFollowingRequest(user_id=ben.user_id)
    one = media_pb2.GetMediaRequest(media_ids=[media_id])
    fed = (await feed.GetFeed(feed_pb2.GetFeedRequest(), metadata=metadata)).items
    return [
        await found(world, metadata, ana.handle),
        await found(world, metadata, ids=[ana.user_id]),
        [shown.id for shown in fed if shown.author.id == ana.user_id],
        [shown.id for shown in (await media.GetMedia(one, metadata=metadata)).items],
        [user.id for user in (await follows.ListFollowers(followers, metadata=metadata)).users],
        [user.id for user in (await follows.ListFollowing(following, metadata=metadata)).users],
        [user.id for user in (await likes.ListLikers(likers, metadata=metadata)).users],
    ]


async def acquainted(world: World) -> tuple[Person, Person, int, int]:
    """Ana and Ben, who follow each other; a photo of each, and Ana likes Ben's."""
    ana, ben = await world.register("ana"), await world.register("ben")
    hers = await upload(world, ana, requests(picture("teal"), new_request_id()))
    his = await upload(world, ben, requests(picture("red"), new_request_id()))
    follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
    likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)
    for who, whom in ((ana, ben), (ben, ana)):
        request = follows_pb2.FollowRequest(request_id=new_request_id(), user_id=whom.user_id)
        await follows.Follow(request, metadata=who.metadata)
    like = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=his.id)
    await likes.LikeMedia(like, metadata=ana.metadata)
    await world.process_all()
    return ana, ben, hers.id, his.id


async def test_who_goes_away_is_hidden_with_all_that_is_his_and_comes_back(world: World) -> None:
    ana, ben, hers, _his = await acquainted(world)
    before = await drawn(world, ben, ana, hers)
    assert all(before)
    assert not (await deactivate(world, ana.metadata)).pending
    assert not any(await drawn(world, ben, ana, hers))
    follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
    likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)
    request = follows_pb2.FollowRequest(request_id=new_request_id(), user_id=ana.user_id)
    refused = await refusal(follows.Follow(request, metadata=ben.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    like = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=hers)
    assert await reason(likes.LikeMedia(like, metadata=ben.metadata)) == "MEDIA_NOT_FOUND"
    listed = follows_pb2.ListFollowersRequest(user_id=ana.user_id)
    assert await reason(follows.ListFollowers(listed, metadata=ben.metadata)) == "USER_NOT_FOUND"
    # Counts keep counting.
    shown = await world.users.GetUsers(
        pb.GetUsersRequest(user_ids=[ben.user_id]), metadata=ben.metadata
    )
    assert (shown.users[0].followers_count, shown.users[0].following_count) == (1, 1)

    again = await log_in(world, "ana")
    await reactivate(world, bearer(again.access_token))
    assert await drawn(world, ben, ana, hers) == before


async def test_a_deactivated_user_may_come_back_or_leave_and_nothing_else(world: World) -> None:
    ana = await world.register("ana")
    await deactivate(world, ana.metadata)
    assert await opens(world, ana.access_token) == "SESSION_ENDED"
    again = await log_in(world, "ANA")
    assert again.deactivated
    refreshed = await refresh(world, again.refresh_token)
    for token in (again.access_token, refreshed.access_token):
        for call in calls_of_every_service(world, bearer(token)):
            refused = await refusal(call)
            assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
            assert refused.reason == "USER_DEACTIVATED"
    leaving = await log_in(world, "ana")
    await log_out(world, bearer(leaving.access_token))
    assert await opens(world, leaving.access_token) == "SESSION_ENDED"
    await reactivate(world, bearer(again.access_token))
    assert await opens(world, again.access_token) == ""
    assert await opens(world, refreshed.access_token) == ""
    assert not (await log_in(world, "ana")).deactivated


async def test_a_log_in_that_met_an_active_user_is_dead_once_he_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        before(patched, world.parts.passwords, "matches", lambda: deactivate(world, ana.metadata))
        late = await log_in(world, "ana")
    assert not late.deactivated
    assert await opens(world, late.access_token) == "SESSION_ENDED"


async def test_a_password_that_is_changed_while_its_user_goes_opens_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana = await world.register("ana")
    with monkeypatch.context() as patched:
        before(patched, world.parts.passwords, "hash", lambda: deactivate(world, ana.metadata))
        changed = await change_password(world, ana.metadata, OTHER)
    assert await opens(world, changed.access_token) == "USER_DEACTIVATED"


async def test_sessions_end_only_when_the_view_hides_their_user(world: World) -> None:
    ana = await world.register("ana")
    await world.hold(users.VIEW)
    refused = await refusal(deactivate(world, ana.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN")
    assert not (await log_in(world, "ana")).deactivated
    world.release(users.VIEW)
    await world.process_all()
    await deactivate(world, ana.metadata)
    assert await opens(world, ana.access_token) == "SESSION_ENDED"
    assert (await log_in(world, "ana")).deactivated


async def test_a_handle_stays_with_who_is_away(world: World) -> None:
    ana = await world.register("ana")
    await deactivate(world, ana.metadata)
    asked = pb.RegisterRequest(request_id=new_request_id(), handle="ana", password=PASSWORD)
    assert await reason(world.users.Register(asked)) == "HANDLE_TAKEN"


async def test_a_registration_that_is_repeated_by_who_is_away_opens_little(world: World) -> None:
    asked = pb.RegisterRequest(request_id=new_request_id(), handle="ana", password=PASSWORD)
    ana = await world.users.Register(asked)
    await deactivate(world, bearer(ana.access_token))
    again = await world.users.Register(asked)
    assert again.user_id == ana.user_id
    assert await opens(world, again.access_token) == "USER_DEACTIVATED"


async def test_an_active_user_who_comes_back_stays_as_he_is(world: World) -> None:
    ana = await world.register("ana")
    ends = await world.log.ends("users")
    await reactivate(world, ana.metadata)
    assert await world.log.ends("users") == ends
    assert await opens(world, ana.access_token) == ""
