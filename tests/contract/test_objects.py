"""What an object store promises, on a local directory and in memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import InvalidRequest, NotFound, StoreUnavailable
from millrace.settings import Settings
from millrace.stores.objects import ORIGINALS, ObjectStore, media_id_of, object_key
from millrace.stores.objects_local import STAGING

KEY = object_key(7)


@pytest.fixture(params=["local", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    url = "memory://" if request.param == "memory" else f"file://{tmp_path / 'objects'}"
    return ObjectStore.open(Settings(objects_url=url))


@pytest.fixture
def local(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open(Settings(objects_url=f"file://{tmp_path / 'objects'}"))


async def whole(objects: ObjectStore, key: str, chunk_bytes: int = 64 * 1024) -> bytes:
    return b"".join([chunk async for chunk in objects.get_chunks(key, chunk_bytes)])


async def keys(objects: ObjectStore, prefix: str = "") -> set[str]:
    return {found.key async for found in objects.list(prefix)}


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5_000_000, 9_000_000])
async def test_what_was_put_is_read_in_pieces_of_the_size_asked_for(
    objects: ObjectStore, size: int
) -> None:
    data = os.urandom(size)
    await objects.put(KEY, data)
    pieces = [piece async for piece in objects.get_chunks(KEY, 1000)]
    assert b"".join(pieces) == data
    assert all(len(piece) == 1000 for piece in pieces[:-1])
    assert all(0 < len(piece) <= 1000 for piece in pieces)


async def test_chunks_make_one_object(objects: ObjectStore) -> None:
    await objects.put(KEY, chunks_of(b"one ", b"", b"two ", b"three"))
    assert await whole(objects, KEY) == b"one two three"


async def test_a_second_put_replaces(objects: ObjectStore) -> None:
    await objects.put(KEY, b"long before")
    await objects.put(KEY, b"now")
    assert await whole(objects, KEY) == b"now"
    assert (await objects.head(KEY)).size_bytes == 3


async def test_what_is_not_there_is_not_found(objects: ObjectStore) -> None:
    with pytest.raises(NotFound):
        await objects.head(KEY)
    with pytest.raises(NotFound):
        await whole(objects, KEY)
    with pytest.raises(NotFound):
        await objects.copy(KEY, object_key(8))
    await objects.delete(KEY)


async def test_deleted_is_gone_and_again_is_harmless(objects: ObjectStore) -> None:
    await objects.put(KEY, b"x")
    await objects.delete(KEY)
    await objects.delete(KEY)
    assert await keys(objects) == set()


async def test_a_copy_stands_alone_and_counts_as_new(objects: ObjectStore) -> None:
    await objects.put(KEY, b"bytes")
    before_ms = (await objects.head(KEY)).modified_ms
    other = object_key(8)
    await objects.copy(KEY, other)
    await objects.delete(KEY)
    assert await whole(objects, other) == b"bytes"
    assert (await objects.head(other)).modified_ms >= before_ms


async def test_list_goes_by_folder_and_says_size_and_time(objects: ObjectStore) -> None:
    many = {object_key(media_id) for media_id in range(1_200)}
    await asyncio.gather(*(objects.put(key, b"abc") for key in sorted(many)))
    await objects.put("other/one", b"x")
    assert await keys(objects, ORIGINALS) == many
    assert await keys(objects) == many | {"other/one"}
    assert await keys(objects, "nothing/") == set()
    found = await anext(objects.list("other/"))
    assert found.size_bytes == 1
    assert found.modified_ms == (await objects.head("other/one")).modified_ms


async def test_a_put_whose_source_fails_leaves_nothing(objects: ObjectStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first half"
        raise InvalidRequest("the client went away")

    with pytest.raises((InvalidRequest, StoreUnavailable)):
        await objects.put(KEY, failing())
    assert await keys(objects) == set()


async def test_no_half_object_is_seen_while_it_is_written(objects: ObjectStore) -> None:
    await objects.put(KEY, b"before")
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        written.set()
        await go_on.wait()
        yield b" and half"

    putting = asyncio.create_task(objects.put(KEY, slow()))
    await written.wait()
    assert await whole(objects, KEY) == b"before"
    assert await keys(objects, ORIGINALS) == {KEY}
    go_on.set()
    await putting
    assert await whole(objects, KEY) == b"half and half"


async def test_a_cancelled_put_leaves_nothing_behind(local: ObjectStore) -> None:
    written = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"half"
        written.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(local.put(KEY, endless()))
    await written.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await keys(local) == set()


async def test_a_store_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    settings = Settings(objects_url=f"file://{tmp_path}", objects_timeout_s=0.05)

    async def endless() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    with pytest.raises(StoreUnavailable):
        await ObjectStore.open(settings).put(KEY, endless())


async def test_a_store_that_cannot_write_is_unavailable(tmp_path: Path) -> None:
    objects = ObjectStore.open(Settings(objects_url=f"file://{tmp_path}"))
    (tmp_path / ORIGINALS.rstrip("/")).write_text("a file where a folder should be")
    with pytest.raises(StoreUnavailable):
        await objects.put(KEY, b"x")
    assert await keys(objects, STAGING) == set()


async def test_files_outlive_the_store_object(tmp_path: Path) -> None:
    settings = Settings(objects_url=f"file://{tmp_path}")
    await ObjectStore.open(settings).put(KEY, b"x")
    assert await whole(ObjectStore.open(settings), KEY) == b"x"


def test_an_address_that_means_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        ObjectStore.open(Settings(objects_url="gopher://hole"))


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_a_key_tells_its_item(media_id: int) -> None:
    assert object_key(media_id) != object_key(media_id)
    assert media_id_of(object_key(media_id)) == media_id


@pytest.mark.parametrize("key", ["", "originals/", "originals/7", "x/" + KEY, KEY + "x"])
def test_other_keys_tell_nothing(key: str) -> None:
    assert media_id_of(key) is None
