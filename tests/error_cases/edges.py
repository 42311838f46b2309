"""Cases of FollowsService, LikesService and SavesService."""

from typing import Any

import grpc
import pytest

from social.v1 import (
    follows_pb2,
    follows_pb2_grpc,
    likes_pb2,
    likes_pb2_grpc,
    saves_pb2,
    saves_pb2_grpc,
)
from tests.error_cases.register import NOBODY, alike, case, request_id
from tests.serving import Person, Refusal, World, refusal


def follow(world: World, ana: Person, user_id: int) -> Any:
    follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
    request = follows_pb2.FollowRequest(request_id=request_id(), user_id=user_id)
    return follows.Follow(request, metadata=ana.metadata)


@case("Follow, Unfollow, ListFollowers, ListFollowing: no such user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
    return await alike(
        ana,
        (follows.Follow, follows_pb2.FollowRequest(request_id=request_id(), user_id=NOBODY)),
        (follows.Unfollow, follows_pb2.UnfollowRequest(request_id=request_id(), user_id=NOBODY)),
        (follows.ListFollowers, follows_pb2.ListFollowersRequest(user_id=NOBODY)),
        (follows.ListFollowing, follows_pb2.ListFollowingRequest(user_id=NOBODY)),
    )


@case("Follow, Unfollow: oneself")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(follow(world, ana, ana.user_id))


@case("Follow: too many accounts already")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    ben, cem = await world.register("ben"), await world.register("cem")
    await follow(world, ana, ben.user_id)
    await world.process_all()
    return await refusal(follow(world, ana, cem.user_id))


@case("LikeMedia, UnlikeMedia, ListLikers, SaveMedia, UnsaveMedia: no such item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)
    saves: Any = saves_pb2_grpc.SavesServiceStub(world.channel)
    return await alike(
        ana,
        (likes.LikeMedia, likes_pb2.LikeMediaRequest(request_id=request_id(), media_id=NOBODY)),
        (likes.UnlikeMedia, likes_pb2.UnlikeMediaRequest(request_id=request_id(), media_id=NOBODY)),
        (likes.ListLikers, likes_pb2.ListLikersRequest(media_id=NOBODY)),
        (saves.SaveMedia, saves_pb2.SaveMediaRequest(request_id=request_id(), media_id=NOBODY)),
        (saves.UnsaveMedia, saves_pb2.UnsaveMediaRequest(request_id=request_id(), media_id=NOBODY)),
    )


def recording(world: World, ana: Person, *messages: tuple[str, int]) -> Any:
    """The stream of these (request_id, number), one item each; read to its end."""
    likes: Any = likes_pb2_grpc.LikesServiceStub(world.channel)
    sent = [
        likes_pb2.RecordLikesRequest(
            request_id=name, likes=[likes_pb2.RecordedLike(sequence=number, media_id=NOBODY)]
        )
        for name, number in messages
    ]
    call = likes.RecordLikes(iter(sent), metadata=ana.metadata)

    async def read_all() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass

    return read_all()


@case("RecordLikes: an item whose number is not one more than the last")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    name = request_id()
    return await refusal(recording(world, ana, (name, 1), (name, 3)))


@case("RecordLikes: another request_id in one stream")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(recording(world, ana, (request_id(), 1), (request_id(), 2)))
