"""Cases of CommentsService, and of EditCaption."""

from typing import Any

import pytest

from social.v1 import comments_pb2, comments_pb2_grpc, media_pb2
from tests.error_cases.media import picture, stub, upload
from tests.error_cases.register import NOBODY, alike, case, request_id
from tests.serving import Person, Refusal, World, refusal


def comments(world: World) -> Any:
    return comments_pb2_grpc.CommentsServiceStub(world.channel)


async def item_of(world: World, who: Person) -> int:
    return int((await upload(world, who, picture())).media.id)


def adding(media_id: int, text: str, once: str = "") -> comments_pb2.AddCommentRequest:
    return comments_pb2.AddCommentRequest(
        request_id=once or request_id(), media_id=media_id, text=text
    )


def deleting(media_id: int, comment_id: int) -> comments_pb2.DeleteCommentRequest:
    return comments_pb2.DeleteCommentRequest(
        request_id=request_id(), media_id=media_id, comment_id=comment_id
    )


def editing(media_id: int) -> media_pb2.EditCaptionRequest:
    return media_pb2.EditCaptionRequest(
        request_id=request_id(), media_id=media_id, caption="at noon"
    )


async def said(world: World, who: Person, media_id: int) -> int:
    answer = await comments(world).AddComment(adding(media_id, "hm"), metadata=who.metadata)
    return int(answer.comment.id)


@case("AddComment, DeleteComment, ListComments: no such item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    rpcs = comments(world)
    return await alike(
        ana,
        (rpcs.AddComment, adding(NOBODY, "hm")),
        (rpcs.DeleteComment, deleting(NOBODY, 1)),
        (rpcs.ListComments, comments_pb2.ListCommentsRequest(media_id=NOBODY)),
    )


@case("AddComment: a request_id again with another body")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    media_id, once, rpcs = await item_of(world, ana), request_id(), comments(world)
    await rpcs.AddComment(adding(media_id, "hm", once), metadata=ana.metadata)
    return await refusal(rpcs.AddComment(adding(media_id, "oh", once), metadata=ana.metadata))


@case("AddComment: a retry, and the comment has been deleted since")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    media_id, once, rpcs = await item_of(world, ana), request_id(), comments(world)
    added = await rpcs.AddComment(adding(media_id, "hm", once), metadata=ana.metadata)
    await rpcs.DeleteComment(deleting(media_id, added.comment.id), metadata=ana.metadata)
    return await refusal(rpcs.AddComment(adding(media_id, "hm", once), metadata=ana.metadata))


@case("DeleteComment: no such comment under this item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    one, other = await item_of(world, ana), await item_of(world, ana)
    comment_id, rpcs = await said(world, ana, one), comments(world)
    return await alike(
        ana,
        (rpcs.DeleteComment, deleting(one, NOBODY)),
        (rpcs.DeleteComment, deleting(other, comment_id)),
    )


@case("DeleteComment: somebody else's comment under somebody else's item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    media_id = await item_of(world, ana)
    comment_id, ben = await said(world, ana, media_id), await world.register("ben")
    rpc = comments(world).DeleteComment
    return await refusal(rpc(deleting(media_id, comment_id), metadata=ben.metadata))


@case("EditCaption: no such item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(stub(world).EditCaption(editing(NOBODY), metadata=ana.metadata))


@case("EditCaption: somebody else's item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    media_id, ben = await item_of(world, ana), await world.register("ben")
    return await refusal(stub(world).EditCaption(editing(media_id), metadata=ben.metadata))


@case("UploadMedia with a caption, EditCaption, AddComment: the user's data key was destroyed")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    media_id = await item_of(world, ana)

    async def none(*_: object) -> None:
        return None

    patched.setattr(type(world.parts.data_keys), "of", none)
    uploaded = await refusal(upload(world, ana, picture(), caption="at noon"))
    refused = await alike(
        ana,
        (stub(world).EditCaption, editing(media_id)),
        (comments(world).AddComment, adding(media_id, "hm")),
    )
    assert refused.reason == uploaded.reason
    return refused
