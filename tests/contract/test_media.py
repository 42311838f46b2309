"""MediaService as a client sees it, on the memory twins and a folder of bytes."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from PIL import Image

from millrace.log.partitioner import key_of
from millrace.relations import View
from millrace.views import comments as comments_view
from millrace.views import likes as likes_view
from millrace.views import users
from social.log.v1.media_pb2 import MediaDeleted, MediaEvent
from social.v1 import (
    comments_pb2,
    comments_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    follows_pb2,
    follows_pb2_grpc,
    likes_pb2,
    likes_pb2_grpc,
    media_pb2_grpc,
    users_pb2,
)
from social.v1 import media_pb2 as pb
from tests.account_calls import log_out
from tests.serving import Person, World, position_of, refusal, serving
from tests.serving import new_request_id as new_id


def picture(colour: str = "teal", side: int = 64, form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side // 2), colour).save(out, form)
    return out.getvalue()


def requests(
    data: bytes, request_id: str, caption: str = "", chunk_bytes: int = 100
) -> list[pb.UploadMediaRequest]:
    header = pb.UploadMediaHeader(request_id=request_id, caption=caption, size_bytes=len(data))
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    return [
        pb.UploadMediaRequest(header=header),
        *(pb.UploadMediaRequest(chunk=chunk) for chunk in chunks),
    ]


async def upload(
    world: World, person: Person, sent: Sequence[pb.UploadMediaRequest]
) -> pb.MediaItem:
    async def stream() -> AsyncIterator[pb.UploadMediaRequest]:
        for request in sent:
            yield request

    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    answer = await stub.UploadMedia(stream(), metadata=person.metadata, timeout=20)
    item: pb.MediaItem = answer.media
    return item


async def test_an_upload_whose_session_ends_meanwhile_publishes_nothing() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        first, *rest = requests(picture(), new_id())
        call = media_pb2_grpc.MediaServiceStub(world.channel).UploadMedia(metadata=ana.metadata)
        await call.write(first)
        await call.write(rest[0])
        assert not (await log_out(world, ana.metadata)).pending
        for chunk in rest[1:]:
            await call.write(chunk)
        await call.done_writing()
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "SESSION_ENDED",
        )
        assert not any(await world.log.ends("media"))


async def test_one_s_own_like_is_drawn_or_the_answer_says_stale() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        item = await upload(world, ana, requests(picture(), new_id()))
        await world.hold(likes_view.VIEW)
        like = likes_pb2_grpc.LikesServiceStub(world.channel).LikeMedia(
            likes_pb2.LikeMediaRequest(request_id=new_id(), media_id=item.id),
            metadata=ana.metadata,
        )
        await like
        covering = (*ana.metadata, ("millrace-position", await position_of(like)))
        media = media_pb2_grpc.MediaServiceStub(world.channel)
        feed = feed_pb2_grpc.FeedServiceStub(world.channel)
        reads = (
            lambda: media.GetMedia(pb.GetMediaRequest(media_ids=[item.id]), metadata=covering),
            lambda: media.ListUserMedia(
                pb.ListUserMediaRequest(user_id=ana.user_id), metadata=covering
            ),
            lambda: feed.GetFeed(feed_pb2.GetFeedRequest(), metadata=covering),
        )
        assert [(await read()).stale for read in reads] == [True] * 3
        world.release(likes_view.VIEW)
        for read in reads:
            answer = await read()
            assert answer.stale or answer.items[0].viewer_likes
        await world.process_all()
        for read in reads:
            answer = await read()
            assert (answer.stale, answer.items[0].likes_count) == (False, 1)


async def test_the_answer_of_an_upload_shows_what_the_caller_has_done_before() -> None:
    """The first answer and that of a retry; a view that is held is one that is behind."""
    async with serving(token_wait_ms=60_000, privacy_wait_s=0) as world:
        ana, sent = await world.register("ana"), requests(picture(), new_id())
        profile = users_pb2.UpdateProfileRequest(request_id=new_id(), display_name="Ana the First")
        first = await _uploaded_after(
            world, ana, users.VIEW, world.users.UpdateProfile(profile, metadata=ana.metadata), sent
        )
        assert first.author.display_name == "Ana the First"
        like = likes_pb2.LikeMediaRequest(request_id=new_id(), media_id=first.id)
        likes = likes_pb2_grpc.LikesServiceStub(world.channel)
        text = comments_pb2.AddCommentRequest(request_id=new_id(), media_id=first.id, text="so")
        comments = comments_pb2_grpc.CommentsServiceStub(world.channel)
        comment = (await comments.AddComment(text, metadata=ana.metadata)).comment
        gone = comments_pb2.DeleteCommentRequest(
            request_id=new_id(), media_id=first.id, comment_id=comment.id
        )
        profile = users_pb2.UpdateProfileRequest(request_id=new_id(), display_name="Ana the Last")
        for view, done in (
            (likes_view.VIEW, likes.LikeMedia(like, metadata=ana.metadata)),
            (comments_view.VIEW, comments.DeleteComment(gone, metadata=ana.metadata)),
            (users.VIEW, world.users.UpdateProfile(profile, metadata=ana.metadata)),
        ):
            again = await _uploaded_after(world, ana, view, done, sent)
        assert (again.id, again.author.display_name) == (first.id, "Ana the Last")
        assert (again.likes_count, again.viewer_likes, again.comments_count) == (1, True, 0)


async def _uploaded_after(
    world: World, who: Person, view: View, done: Any, sent: Sequence[pb.UploadMediaRequest]
) -> pb.MediaItem:
    """The answer to one who has `done` something that the view has not when he uploads."""
    await world.hold(view)
    await done
    uploading = asyncio.create_task(
        upload(world, replace(who, position=await position_of(done)), sent)
    )
    try:
        await world.until_waited_for(view)
    finally:
        world.release(view)
        item = await uploading
    return item


async def test_an_upload_is_seen_downloaded_liked_and_in_the_followers_feed() -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        item = await upload(world, ana, requests(picture(), new_id(), "a teal square"))
        assert (item.author.handle, item.caption) == ("ana", "a teal square")
        assert (item.width, item.height, item.kind) == (64, 32, pb.MEDIA_KIND_JPEG)

        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        got = b""
        request = pb.DownloadMediaRequest(media_id=item.id)
        async for part in stub.DownloadMedia(request, metadata=ben.metadata):
            got += part.chunk
        assert hashlib.sha256(got).digest() == item.sha256
        assert len(got) == item.size_bytes

        follows = follows_pb2_grpc.FollowsServiceStub(world.channel)
        likes = likes_pb2_grpc.LikesServiceStub(world.channel)
        await follows.Follow(
            follows_pb2.FollowRequest(request_id=new_id(), user_id=ana.user_id),
            metadata=ben.metadata,
        )
        await likes.LikeMedia(
            likes_pb2.LikeMediaRequest(request_id=new_id(), media_id=item.id),
            metadata=ben.metadata,
        )
        await world.process_all()
        feeds = feed_pb2_grpc.FeedServiceStub(world.channel)
        page = await feeds.GetFeed(feed_pb2.GetFeedRequest(), metadata=ben.metadata)
        assert [(one.id, one.likes_count, one.viewer_likes) for one in page.items] == [
            (item.id, 1, True)
        ]
        assert page.receipt.complete
        own = await feeds.GetFeed(feed_pb2.GetFeedRequest(), metadata=ana.metadata)
        assert [one.id for one in own.items] == [item.id]


async def test_a_retry_answers_the_same_item_and_another_body_is_refused() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        request_id = new_id()
        first = await upload(world, ana, requests(picture(), request_id))
        assert (await upload(world, ana, requests(picture(), request_id))).id == first.id
        refused = await refusal(upload(world, ana, requests(picture("red"), request_id)))
        assert refused.reason == "REQUEST_ID_REUSED"
        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        listed = await stub.ListUserMedia(
            pb.ListUserMediaRequest(user_id=ana.user_id), metadata=ana.metadata
        )
        assert [one.id for one in listed.items] == [first.id]


async def test_an_upload_outlives_its_connections_age() -> None:
    async with serving(grpc_connection_age_max_s=1) as world:
        ana = await world.register("ana")
        header, *chunks = requests(picture(), new_id())

        async def stream() -> AsyncIterator[pb.UploadMediaRequest]:
            yield header
            await world.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            for chunk in chunks:
                yield chunk

        assert world.channel.get_state() == grpc.ChannelConnectivity.READY
        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        answer = await stub.UploadMedia(stream(), metadata=ana.metadata, timeout=20)
        assert answer.media.author.id == ana.user_id


async def test_a_clash_of_ids_is_minted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(log_partitions=1) as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        first = await upload(world, ana, requests(picture(), new_id()))
        mint = world.parts.ids.mint
        minted = iter([first.id, first.id])
        monkeypatch.setattr(
            type(world.parts.ids),
            "mint",
            lambda _, partition: next(minted, None) or mint(partition),
        )
        second = await upload(world, ben, requests(picture("red"), new_id()))
        assert second.id != first.id
        assert second.author.id == ben.user_id


BAD = [
    ([], "UPLOAD_OUT_OF_ORDER"),
    (requests(picture(), new_id())[1:], "UPLOAD_OUT_OF_ORDER"),
    (requests(picture(), new_id())[:1] * 2, "UPLOAD_OUT_OF_ORDER"),
    (requests(b"", new_id()), "MEDIA_EMPTY"),
    (requests(picture(), new_id())[:-1], "MEDIA_SIZE_DIFFERS"),
    (requests(picture()[:300], new_id()), "MEDIA_BROKEN"),
    (requests(picture(form="GIF"), new_id()), "MEDIA_TYPE_UNSUPPORTED"),
    (requests(b"hello, world, hello, world", new_id()), "MEDIA_TYPE_UNSUPPORTED"),
    (requests(picture(side=200), new_id()), "MEDIA_TOO_MANY_PIXELS"),
    (requests(picture(), new_id(), "zero \0 byte"), "INVALID_FIELD"),
]


async def test_bad_uploads_are_refused_and_leave_nothing() -> None:
    async with serving(image_side_max=100) as world:
        ana = await world.register("ana")
        for sent, reason in BAD:
            refused = await refusal(upload(world, ana, sent))
            assert (refused.code.name, refused.reason) == ("INVALID_ARGUMENT", reason)
        assert world.parts.cleaner.room.taken_bytes == 0
        assert [found async for found in world.parts.objects.list("originals/")] == []
        assert sum(await world.log.ends("media")) == 0


async def test_only_the_author_deletes_and_a_retry_finds_it_done() -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        item = await upload(world, ana, requests(picture(), new_id()))
        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        request = pb.DeleteMediaRequest(request_id=new_id(), media_id=item.id)
        refused = await refusal(stub.DeleteMedia(request, metadata=ben.metadata))
        assert (refused.code.name, refused.reason) == ("PERMISSION_DENIED", "NOT_THE_AUTHOR")
        for _ in range(2):
            assert not (await stub.DeleteMedia(request, metadata=ana.metadata)).pending
        got = await stub.GetMedia(pb.GetMediaRequest(media_ids=[item.id]), metadata=ben.metadata)
        assert not got.items
        refused = await refusal(stub.DeleteMedia(request, metadata=ben.metadata))
        assert (refused.code.name, refused.reason) == ("NOT_FOUND", "MEDIA_NOT_FOUND")


async def test_a_deletion_that_overtakes_its_retry_lets_it_succeed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        ana = await world.register("ana")
        item = await upload(world, ana, requests(picture(), new_id()))
        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        request = pb.DeleteMediaRequest(request_id=new_id(), media_id=item.id)
        first_try = MediaEvent(deleted=MediaDeleted(media_id=item.id, author_id=ana.user_id))
        get_many = world.store.get_many

        async def overtaken(rows: Any, keys: Any) -> Any:
            found = await get_many(rows, keys)
            if rows.name == "media":
                monkeypatch.undo()
                key = key_of(ana.user_id)
                await world.log.append("media", key, first_try.SerializeToString())
                await world.process_all()
            return found

        monkeypatch.setattr(world.store, "get_many", overtaken)
        assert not (await stub.DeleteMedia(request, metadata=ana.metadata)).pending
        got = await stub.GetMedia(pb.GetMediaRequest(media_ids=[item.id]), metadata=ana.metadata)
        assert not got.items
