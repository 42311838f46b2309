"""The main job on the real servers: from a call to another person's feed."""

import asyncio
import hashlib
import io

import pytest
from PIL import Image

from cli import main, trace
from millrace.client import Client, Session, new_request_id
from millrace.errors import AlreadyExists, NotFound, PermissionDenied, Unauthenticated
from millrace.traffic.checks import feed_of
from millrace.traffic.record import Acknowledged, Edge, Record
from social.v1 import follows_pb2, likes_pb2, media_pb2
from tests.running import PASSWORD, RunningMillrace, running_millrace

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(240)


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (shade % 256, 80, 255 - shade % 256)).save(out, "JPEG")
    return out.getvalue()


async def follow(client: Client, session: Session, user_id: int) -> None:
    request = follows_pb2.FollowRequest(request_id=new_request_id(), user_id=user_id)
    await client.call(lambda stubs: stubs.follows.Follow, request, session)


async def like(client: Client, session: Session, media_id: int) -> None:
    request = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=media_id)
    await client.call(lambda stubs: stubs.likes.LikeMedia, request, session)


async def test_a_picture_reaches_the_followers_feed(running_millrace: RunningMillrace) -> None:
    client = running_millrace.client
    ana = await client.register("ana", PASSWORD, "Ana")
    ben = await client.register("ben", PASSWORD, "Ben")
    await follow(client, ben, ana.user_id)
    item = await client.upload(ana, picture(1), "the first")
    await like(client, ben, item.id)

    # Ben's own follow and like are behind his position: his next read covers them.
    feed = [shown async for shown in feed_of(client, ben)]
    assert [(shown.id, shown.caption, shown.author.handle) for shown in feed] == [
        (item.id, "the first", "ana")
    ]
    assert (feed[0].likes_count, feed[0].viewer_likes) == (1, True)
    header, data = await client.download(ben, item.id)
    assert header.sha256 == hashlib.sha256(data).digest() == item.sha256

    record = Record(acknowledged=Acknowledged(registered={ana.user_id: "ana", ben.user_id: "ben"}))
    record.acknowledged.edges[Edge("follows", ben.user_id, ana.user_id, live=True)] += 1
    record.acknowledged.edges[Edge("likes", ben.user_id, item.id, live=True)] += 1
    for check in await running_millrace.all_checks([ana, ben], record):
        assert check.passed, check


async def test_a_request_again_changes_nothing(running_millrace: RunningMillrace) -> None:
    client = running_millrace.client
    cleo = await client.register("cleo", PASSWORD)
    request_id = new_request_id()
    first = await client.upload(cleo, picture(2), "once", request_id=request_id)
    again = await client.upload(cleo, picture(2), "once", request_id=request_id)
    assert first.id == again.id
    with pytest.raises(AlreadyExists):
        await client.upload(cleo, picture(2), "another caption", request_id=request_id)
    listed = media_pb2.ListUserMediaRequest(user_id=cleo.user_id)
    page = await client.call(lambda stubs: stubs.media.ListUserMedia, listed, cleo)
    assert [item.id for item in page.items] == [first.id]


async def test_refusals_come_as_their_errors(running_millrace: RunningMillrace) -> None:
    client = running_millrace.client
    await client.register("dora", PASSWORD)
    with pytest.raises(AlreadyExists):
        await client.register("Dora", PASSWORD)
    with pytest.raises(Unauthenticated):
        await client.log_in("dora", "another password")


async def test_comments_and_a_new_caption(running_millrace: RunningMillrace) -> None:
    client = running_millrace.client
    gil = await client.register("gil", PASSWORD)
    hana = await client.register("hana", PASSWORD)
    item = await client.upload(gil, picture(4), "at dawn")
    await client.edit_caption(gil, item.id, "at noon")
    request_id = new_request_id()
    first = await client.add_comment(hana, item.id, "Well done, @Gil.", request_id=request_id)
    assert [(one.handle, one.user_id) for one in first.mentions] == [("Gil", gil.user_id)]
    again = await client.add_comment(hana, item.id, "Well done, @Gil.", request_id=request_id)
    assert again == first
    with pytest.raises(AlreadyExists):
        await client.add_comment(hana, item.id, "Well done.", request_id=request_id)
    thanks = await client.add_comment(gil, item.id, "thanks")
    assert [one async for one in client.comments(hana, item.id, page_size=1)] == [thanks, first]
    drawn = (await client.get_media(gil, [item.id])).items[0]
    assert (drawn.caption, drawn.comments_count) == ("at noon", 2)

    with pytest.raises(PermissionDenied):
        await client.delete_comment(hana, item.id, thanks.id)
    # The item's author deletes it: the event lies in the partition of the comment's author.
    assert await client.delete_comment(gil, item.id, first.id)
    assert [one.id async for one in client.comments(gil, item.id)] == [thanks.id]
    with pytest.raises(NotFound):
        await client.add_comment(hana, item.id, "Well done, @Gil.", request_id=request_id)
    assert (await client.get_media(hana, [item.id])).items[0].comments_count == 1


async def test_killed_processes_come_back_and_nothing_acknowledged_is_lost(
    running_millrace: RunningMillrace,
) -> None:
    client = running_millrace.client
    eva = await client.register("eva", PASSWORD)
    fay = await client.register("fay", PASSWORD)
    await follow(client, fay, eva.user_id)
    item = await client.upload(eva, picture(3), "before the kill")
    await running_millrace.kill(*running_millrace.names)
    await like(client, fay, item.id)
    await running_millrace.process_all()
    feed = [shown async for shown in feed_of(client, fay)]
    assert [(shown.id, shown.likes_count) for shown in feed] == [(item.id, 1)]


async def test_a_post_is_told_from_the_log_to_its_followers_feed(
    running_millrace: RunningMillrace, capsys: pytest.CaptureFixture[str]
) -> None:
    client = running_millrace.client
    ines = await client.register("ines", PASSWORD)
    jona = await client.register("jona", PASSWORD)
    await follow(client, jona, ines.user_id)
    await running_millrace.process_all()
    item = await client.upload(ines, picture(3), "not for everybody")
    await running_millrace.process_all()

    def run() -> None:
        main.commands(["trace", f"media:{item.id}"], standalone_mode=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "settings_of_running", lambda data: running_millrace.settings)
        await asyncio.to_thread(run)
    told = capsys.readouterr().out
    assert f"created media {item.id}: this event." in told
    assert "its position" in told.lower()
    assert "Of all 1 followers now, 1 are owed a row by the last plan: 1 have it" in told
    assert "not for everybody" not in told
