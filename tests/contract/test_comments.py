"""CommentsService and EditCaption as a client sees them, on the memory twins."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from millrace.log.codec import decode
from millrace.log.partitioner import key_of, partition_of
from millrace.views import comments as comments_view
from millrace.views import media as media_view
from millrace.views.comments import COMMENTS
from social.v1 import comments_pb2 as pb
from social.v1 import comments_pb2_grpc, feed_pb2, feed_pb2_grpc, media_pb2, media_pb2_grpc
from tests.contract.test_media import picture, requests, upload
from tests.serving import Person, World, position_of, refusal, serving
from tests.serving import new_request_id as new_id


def stub(world: World) -> Any:
    return comments_pb2_grpc.CommentsServiceStub(world.channel)


def media_stub(world: World) -> Any:
    return media_pb2_grpc.MediaServiceStub(world.channel)


def add(world: World, who: Person, media_id: int, text: str, request_id: str = "") -> Any:
    request = pb.AddCommentRequest(request_id=request_id or new_id(), media_id=media_id, text=text)
    return stub(world).AddComment(request, metadata=who.metadata)


def delete(world: World, who: Person, media_id: int, comment_id: int) -> Any:
    request = pb.DeleteCommentRequest(request_id=new_id(), media_id=media_id, comment_id=comment_id)
    return stub(world).DeleteComment(request, metadata=who.metadata)


async def listed(world: World, who: Person, media_id: int, **page: Any) -> pb.ListCommentsResponse:
    request = pb.ListCommentsRequest(media_id=media_id, **page)
    answer: pb.ListCommentsResponse = await stub(world).ListComments(request, metadata=who.metadata)
    return answer


async def item_of(world: World, who: Person, caption: str = "") -> int:
    return (await upload(world, who, requests(picture(), new_id(), caption))).id


async def drawn(world: World, who: Person, media_id: int) -> media_pb2.MediaItem:
    request = media_pb2.GetMediaRequest(media_ids=[media_id])
    answer = await media_stub(world).GetMedia(request, metadata=who.metadata)
    item: media_pb2.MediaItem = answer.items[0]
    return item


def hide(world: World, patched: pytest.MonkeyPatch, person: Person) -> None:
    """As a user whom the views no longer show."""
    read = world.store.get_many

    async def without(table: Any, keys: Any) -> Any:
        rows = await read(table, keys)
        return {
            key: row
            for key, row in rows.items()
            if table.name != "users" or key != (person.user_id,)
        }

    patched.setattr(world.store, "get_many", without)


def facts(refused: Any) -> tuple[str, str]:
    return refused.code.name, refused.reason


async def test_a_comment_is_read_counted_and_sealed() -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id = await item_of(world, ana)
        first = (await add(world, ben, media_id, "well done, @Ana. @ben @nobody_")).comment
        assert (first.media_id, first.author.handle) == (media_id, "ben")
        assert first.text == "well done, @Ana. @ben @nobody_"
        assert [(one.handle, one.user_id) for one in first.mentions] == [
            ("Ana", ana.user_id),
            ("ben", ben.user_id),
        ]
        assert abs(first.created_at.ToMilliseconds() - world.parts.clock.now_ms()) < 60_000
        second = (await add(world, ana, media_id, "thanks")).comment
        page = await listed(world, ben, media_id)
        assert list(page.comments) == [second, first]
        assert (page.stale, page.next_page_token) == (False, "")

        assert (await drawn(world, ben, media_id)).comments_count == 2
        own = media_pb2.ListUserMediaRequest(user_id=ana.user_id)
        items = (await media_stub(world).ListUserMedia(own, metadata=ben.metadata)).items
        feed = feed_pb2_grpc.FeedServiceStub(world.channel)
        fed = (await feed.GetFeed(feed_pb2.GetFeedRequest(), metadata=ana.metadata)).items
        assert [one.comments_count for one in (*items, *fed)] == [2, 2]

        partition = partition_of(key_of(ben.user_id), world.log.partitions)
        (record,) = [
            one
            for one in world.log.after("comments", partition, 0, 9)
            if one.key == key_of(ben.user_id)
        ]
        assert b"well done" not in (record.value or b"")
        event: Any = decode(record).message
        assert list(event.mentioned_ids) == [ana.user_id, ben.user_id, 0]


async def test_a_retry_finds_its_comment_and_another_body_is_refused() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        media_id, other = await item_of(world, ana), await item_of(world, ana)
        request_id = new_id()
        first = (await add(world, ana, media_id, "once", request_id)).comment
        again = (await add(world, ana, media_id, "once", request_id.upper())).comment
        assert again == first
        for media, text in ((media_id, "twice"), (other, "once")):
            refused = await refusal(add(world, ana, media, text, request_id))
            assert facts(refused) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert len((await listed(world, ana, media_id)).comments) == 1
        # Another user's request ids are his own.
        ben = await world.register("ben")
        assert (await add(world, ben, media_id, "twice", request_id)).comment.id != first.id

        await delete(world, ana, media_id, first.id)
        refused = await refusal(add(world, ana, media_id, "once", request_id))
        assert facts(refused) == ("NOT_FOUND", "COMMENT_NOT_FOUND")


async def test_concurrent_tries_of_one_request_are_one_comment() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        media_id, request_id = await item_of(world, ana), new_id()
        answers = await asyncio.gather(
            *(add(world, ana, media_id, "once", request_id) for _ in range(8))
        )
        assert len({answer.comment.id for answer in answers}) == 1
        assert len((await listed(world, ana, media_id)).comments) == 1
        assert (await drawn(world, ana, media_id)).comments_count == 1


async def test_a_clash_of_ids_is_minted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(log_partitions=1) as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id = await item_of(world, ana)
        first = (await add(world, ana, media_id, "first")).comment
        mint = world.parts.ids.mint
        minted = iter([first.id, first.id])
        monkeypatch.setattr(
            type(world.parts.ids),
            "mint",
            lambda _, partition: next(minted, None) or mint(partition),
        )
        second = (await add(world, ben, media_id, "second")).comment
        page = await listed(world, ana, media_id)
        assert list(page.comments) == [second, first]


async def test_a_view_that_lags_leaves_the_outcome_open_and_a_retry_finds_it() -> None:
    async with serving(apply_wait_s=0.3) as world:
        ana = await world.register("ana")
        media_id, request_id = await item_of(world, ana), new_id()
        await world.hold(comments_view.VIEW)
        refused = await refusal(add(world, ana, media_id, "late", request_id))
        assert facts(refused) == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        world.release(comments_view.VIEW)
        comment = (await add(world, ana, media_id, "late", request_id)).comment
        assert [one.id for one in (await listed(world, ana, media_id)).comments] == [comment.id]


async def test_a_deletion_that_is_not_applied_in_time_is_pending_then_holds() -> None:
    async with serving(privacy_wait_s=0.05, token_wait_ms=50) as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id = await item_of(world, ana)
        comment = (await add(world, ben, media_id, "hm")).comment
        await world.hold(comments_view.VIEW)
        # By the item's author: the event lies in the partition of the comment's.
        call = delete(world, ana, media_id, comment.id)
        assert (await call).pending
        covering = (*ana.metadata, ("millrace-position", await position_of(call)))
        request = pb.ListCommentsRequest(media_id=media_id)
        got = media_pb2.GetMediaRequest(media_ids=[media_id])
        assert (await stub(world).ListComments(request, metadata=covering)).stale
        assert (await media_stub(world).GetMedia(got, metadata=covering)).stale
        world.release(comments_view.VIEW)
        await world.process_all()
        answer = await stub(world).ListComments(request, metadata=covering)
        assert (answer.stale, list(answer.comments)) == (False, [])
        assert (await drawn(world, ana, media_id)).comments_count == 0


async def test_who_may_delete_a_comment() -> None:
    async with serving() as world:
        ana, ben, cem = [await world.register(name) for name in ("ana", "ben", "cem")]
        media_id, other = await item_of(world, ana), await item_of(world, ana)
        by_ben = [(await add(world, ben, media_id, f"{n}")).comment.id for n in range(3)]
        refused = await refusal(delete(world, cem, media_id, by_ben[0]))
        assert facts(refused) == ("PERMISSION_DENIED", "NOT_THE_AUTHOR")
        for media, comment in ((media_id, 10**15), (other, by_ben[0])):
            for who in (ana, ben, cem):
                refused = await refusal(delete(world, who, media, comment))
                assert facts(refused) == ("NOT_FOUND", "COMMENT_NOT_FOUND")
        for who, comment in ((ben, by_ben[0]), (ana, by_ben[1])):
            for _ in range(2):
                assert not (await delete(world, who, media_id, comment)).pending
            refused = await refusal(delete(world, cem, media_id, comment))
            assert facts(refused) == ("NOT_FOUND", "COMMENT_NOT_FOUND")
        # Whoever deleted it first.
        assert not (await delete(world, ana, media_id, by_ben[0])).pending
        page = await listed(world, cem, media_id)
        assert [one.id for one in page.comments] == [by_ben[2]]
        assert (await drawn(world, cem, media_id)).comments_count == 1


async def test_under_a_deleted_item_nothing_is_there_but_one_s_own_to_delete() -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id, request_id = await item_of(world, ana), new_id()
        comment = (await add(world, ben, media_id, "mine", request_id)).comment
        gone = media_pb2.DeleteMediaRequest(request_id=new_id(), media_id=media_id)
        await media_stub(world).DeleteMedia(gone, metadata=ana.metadata)
        tries = (
            stub(world).ListComments(
                pb.ListCommentsRequest(media_id=media_id), metadata=ben.metadata
            ),
            add(world, ben, media_id, "more"),
            add(world, ben, media_id, "mine", request_id),
            delete(world, ana, media_id, comment.id),
        )
        for call in tries:
            assert facts(await refusal(call)) == ("NOT_FOUND", "MEDIA_NOT_FOUND")
        for _ in range(2):
            assert not (await delete(world, ben, media_id, comment.id)).pending
        rows = await COMMENTS.get_many(world.store, [(comment.id,)])
        assert rows == {}


async def test_pages_go_newest_first_and_their_tokens_belong_to_one_item() -> None:
    async with serving() as world:
        ana = await world.register("ana")
        media_id, other = await item_of(world, ana), await item_of(world, ana)
        ids = [(await add(world, ana, media_id, f"{n}")).comment.id for n in range(5)]
        seen, token = [], ""
        while True:
            page = await listed(world, ana, media_id, page_size=2, page_token=token)
            seen += [one.id for one in page.comments]
            token = page.next_page_token or token
            if not page.next_page_token:
                break
        assert seen == ids[::-1]
        request = pb.ListCommentsRequest(media_id=other, page_token=token)
        refused = await refusal(stub(world).ListComments(request, metadata=ana.metadata))
        assert facts(refused) == ("INVALID_ARGUMENT", "PAGE_TOKEN_OF_ANOTHER_LIST")


async def test_who_is_hidden_neither_speaks_nor_is_mentioned_but_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id = await item_of(world, ana)
        of_ben = (await add(world, ben, media_id, "me")).comment
        about = (await add(world, ana, media_id, "@ben and @ana")).comment
        assert len(about.mentions) == 2
        with monkeypatch.context() as patched:
            hide(world, patched, ben)
            (shown,) = (await listed(world, ana, media_id)).comments
            assert (shown.id, shown.text) == (about.id, "@ben and @ana")
            assert [one.handle for one in shown.mentions] == ["ana"]
            assert (await drawn(world, ana, media_id)).comments_count == 2
            refused = await refusal(delete(world, ana, media_id, of_ben.id))
            assert facts(refused) == ("NOT_FOUND", "COMMENT_NOT_FOUND")
        assert len((await listed(world, ana, media_id)).comments) == 2


async def test_mentions_are_bounded() -> None:
    async with serving(comment_mentions_max=2) as world:
        people = [await world.register(name) for name in ("ana", "ben", "cem")]
        media_id = await item_of(world, people[0])
        comment = (await add(world, people[0], media_id, "@ana @ben @ana @cem")).comment
        assert [one.handle for one in comment.mentions] == ["ana", "ben"]


def captions() -> Iterator[str]:
    yield from ("at noon", "x" * 2200, "", "at night")


async def test_a_caption_is_replaced_by_its_author_alone() -> None:
    async with serving() as world:
        ana, ben = await world.register("ana"), await world.register("ben")
        media_id = await item_of(world, ana, "at dawn")

        def edit(who: Person, caption: str, item: int = media_id) -> Any:
            request = media_pb2.EditCaptionRequest(
                request_id=new_id(), media_id=item, caption=caption
            )
            return media_stub(world).EditCaption(request, metadata=who.metadata)

        for caption in captions():
            call = edit(ana, caption)
            await call
            covering = (*ana.metadata, ("millrace-position", await position_of(call)))
            got = media_pb2.GetMediaRequest(media_ids=[media_id])
            answer = await media_stub(world).GetMedia(got, metadata=covering)
            assert (answer.items[0].caption, answer.stale) == (caption, False)
        assert facts(await refusal(edit(ben, "mine"))) == ("PERMISSION_DENIED", "NOT_THE_AUTHOR")
        assert facts(await refusal(edit(ana, "x", 10**15))) == ("NOT_FOUND", "MEDIA_NOT_FOUND")
        assert facts(await refusal(edit(ana, "x" * 2201))) == (
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
        )
        assert (await drawn(world, ben, media_id)).caption == "at night"

        # It answers when the log has it.
        await world.hold(media_view.VIEW)
        await edit(ana, "at last")
        world.release(media_view.VIEW)
        await world.process_all()
        assert (await drawn(world, ben, media_id)).caption == "at last"
        for partition in range(world.log.partitions):
            for record in world.log.after("media", partition, 0, 99):
                assert b"at " not in (record.value or b"")
        gone = media_pb2.DeleteMediaRequest(request_id=new_id(), media_id=media_id)
        await media_stub(world).DeleteMedia(gone, metadata=ana.metadata)
        assert facts(await refusal(edit(ana, "x"))) == ("NOT_FOUND", "MEDIA_NOT_FOUND")
