"""What docs/guarantees.md says of every read: own writes, monotonic reads, staleness, privacy."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest

from social.v1 import comments_pb2, likes_pb2, media_pb2, saves_pb2, users_pb2
from tests.calls import READS, WRITES
from tests.contract.test_protos import CONTRACT
from tests.scenes import Answer, Scene, scene_in, unpositioned
from tests.serving import Person, World, another_process, new_request_id, refusal, serving

LISTS = [rpc for rpc in READS if CONTRACT[rpc] == "lists"]


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with serving(token_wait_ms=50) as served:
        yield served


@pytest.fixture(scope="module")
async def patient() -> AsyncIterator[World]:
    async with serving(token_wait_ms=10_000, privacy_wait_s=0.1) as served:
        yield served


@pytest.fixture(scope="module")
async def neighbour(patient: World) -> AsyncIterator[World]:
    async with another_process(patient) as other:
        yield other


async def written(scene: Scene, rpc: str) -> Person:
    """The reader, whose position covers a write that the read shows."""
    write = WRITES[READS[rpc].by]
    who = write.who(scene)
    assert who is not None
    return await scene.write(READS[rpc].by, write.request(scene), who)


async def read(scene: Scene, rpc: str, who: Person) -> Answer:
    return await scene.ask(rpc, READS[rpc].request(scene), who)


@pytest.mark.parametrize("rpc", READS)
async def test_a_read_with_the_position_shows_the_write(patient: World, rpc: str) -> None:
    """It waits for its views: the one that has the write is held until it does."""
    scene = await scene_in(patient)
    view = WRITES[READS[rpc].by].view
    await patient.process_all()
    await patient.hold(view)
    try:
        reader = await written(scene, rpc)
        reading = asyncio.create_task(read(scene, rpc, reader))
        await patient.until_waited_for(view)
        assert not reading.done()
    finally:
        patient.release(view)
    answer = await reading
    assert READS[rpc].shows(answer.only, scene)
    assert not answer.only.stale


@pytest.mark.parametrize("rpc", READS)
async def test_a_read_that_cannot_show_the_write_says_stale(world: World, rpc: str) -> None:
    scene = await scene_in(world)
    view = WRITES[READS[rpc].by].view
    await world.process_all()
    await world.hold(view)
    try:
        reader = await written(scene, rpc)
        late = await read(scene, rpc, reader)
    finally:
        world.release(view)
    assert late.only.stale
    await world.process_all()
    answer = await read(scene, rpc, reader)
    assert READS[rpc].shows(answer.only, scene)
    assert not answer.only.stale


@pytest.mark.parametrize("rpc", READS)
async def test_reads_with_one_position_never_go_back(
    patient: World, neighbour: World, rpc: str
) -> None:
    """What one read has shown, each later one with the same position shows, in any process."""
    scene = await scene_in(patient)
    elsewhere = replace(scene, world=neighbour)
    reader = await written(scene, rpc)
    for place in (scene, elsewhere, scene, elsewhere):
        answer = await read(place, rpc, reader)
        assert READS[rpc].shows(answer.only, scene)
        assert not answer.only.stale


@pytest.mark.parametrize("rpc", READS)
async def test_without_a_position_nothing_is_stale(world: World, rpc: str) -> None:
    scene = await scene_in(world)
    answer = await read(scene, rpc, unpositioned(scene.ben))
    assert not answer.only.stale


@pytest.mark.parametrize("rpc", READS)
async def test_who_is_hidden_is_left_out_or_not_found(world: World, rpc: str) -> None:
    scene = await scene_in(world)
    follow = WRITES["FollowsService/Follow"]
    scene.ben = await scene.write("FollowsService/Follow", follow.request(scene), scene.ben)
    gone = users_pb2.DeactivateUserRequest(request_id=new_request_id())
    await scene.ask("UsersService/DeactivateUser", gone, scene.ana)
    await world.process_all()
    if READS[rpc].owned == "refuses":
        refused = await refusal(read(scene, rpc, scene.ben))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        return
    shown = (await read(scene, rpc, scene.ben)).only
    assert not (shown.users if hasattr(shown, "users") else shown.items)


@pytest.mark.parametrize("rpc", LISTS)
async def test_pages_neither_skip_nor_repeat(world: World, rpc: str) -> None:
    """Whatever the page size; a token may be used again, by anybody who sees the list."""
    scene = await scene_in(world)
    await filled(scene)
    whole = await pages(scene, rpc, 100)
    assert len(whole) == len(set(whole)) >= 3
    for size in (1, 2):
        assert await pages(scene, rpc, size) == whole


async def filled(scene: Scene) -> None:
    """Three of everything: followers of Ana, items of hers, likes, comments, saves."""
    world, tag = scene.world, new_request_id()[:8]
    others = [await world.register(f"f{number}.{tag}") for number in range(2)]
    upload, items = WRITES["MediaService/UploadMedia"], [scene.item]
    for _ in range(2):
        answer = await scene.ask("MediaService/UploadMedia", upload.request(scene), scene.ana)
        items.append(answer.only.media.id)
    for item in items:
        save = saves_pb2.SaveMediaRequest(request_id=new_request_id(), media_id=item)
        await scene.ask("SavesService/SaveMedia", save, scene.ben)
    for fan in (scene.ben, *others):
        follow = WRITES["FollowsService/Follow"].request(scene)
        await scene.ask("FollowsService/Follow", follow, fan)
        back = type(follow)(request_id=new_request_id(), user_id=fan.user_id)
        await scene.ask("FollowsService/Follow", back, scene.ana)
        like = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=scene.item)
        await scene.ask("LikesService/LikeMedia", like, fan)
        said = comments_pb2.AddCommentRequest(
            request_id=new_request_id(), media_id=scene.item, text="so"
        )
        await scene.ask("CommentsService/AddComment", said, fan)
    await world.process_all()


async def pages(scene: Scene, rpc: str, size: int) -> list[int]:
    request = READS[rpc].request(scene)
    if rpc == "FollowsService/ListFollowing":
        request.user_id = scene.ana.user_id
    request.page_size = size
    ids: list[int] = []
    while True:
        page = (await scene.ask(rpc, request, scene.ben)).only
        again = (await scene.ask(rpc, request, scene.ben)).only
        rows = next(
            getattr(page, name) for name in ("users", "items", "comments") if hasattr(page, name)
        )
        assert again.next_page_token == page.next_page_token
        ids += [row.id for row in rows]
        if not page.next_page_token:
            return ids
        request.page_token = page.next_page_token


async def test_a_download_is_of_what_the_reader_may_see(world: World) -> None:
    scene = await scene_in(world)
    request = media_pb2.DownloadMediaRequest(media_id=scene.item)
    parts = (await scene.ask("MediaService/DownloadMedia", request, scene.cem)).messages
    assert sum(len(part.chunk) for part in parts) == parts[0].header.size_bytes
    gone = media_pb2.DeleteMediaRequest(request_id=new_request_id(), media_id=scene.item)
    answer = await scene.ask("MediaService/DeleteMedia", gone, scene.ana)
    assert not answer.only.pending
    for reader in (unpositioned(scene.cem), replace(scene.ana, position=answer.position)):
        refused = await refusal(scene.ask("MediaService/DownloadMedia", request, reader))
        assert refused.code is grpc.StatusCode.NOT_FOUND
