"""The client's uploads and downloads: from anything, through breaks, verified."""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millrace.client import Client, Session, new_request_id
from millrace.client import body as client_body
from millrace.errors import InvalidRequest, StoreUnavailable
from services.call import Call
from services.rpc import Service
from social.v1 import media_pb2 as pb
from tests.contract.test_media import picture
from tests.cutting import Proxy, cutting
from tests.serving import PASSWORD, World, serving

MEDIA = pb.DESCRIPTOR.services_by_name["MediaService"]
STORED = random.Random(7).randbytes(5_000)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


@pytest.fixture
async def proxy(world: World) -> AsyncIterator[Proxy]:
    async with cutting(world.address) as made:
        yield made


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    async with Client(proxy.address, connections=1, deadline_s=5.0) as made:
        yield made


@pytest.fixture
async def ana(client: Client) -> Session:
    return await client.register("ana", PASSWORD)


async def pieces(data: bytes, piece_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


async def test_bytes_files_and_iterators_are_uploaded(
    client: Client, ana: Session, tmp_path: Path
) -> None:
    data = picture()
    path = tmp_path / "sea.jpg"
    path.write_bytes(data)
    for source in (data, path, pieces(data, 100)):
        item = await client.upload(ana, source, "sea")
        header = await client.download_to(ana, item.id, tmp_path / "copy.jpg")
        assert header.sha256 == item.sha256
        stored = (tmp_path / "copy.jpg").read_bytes()
        assert (len(stored), hashlib.sha256(stored).digest()) == (item.size_bytes, item.sha256)
        assert (await client.download(ana, item.id))[1] == stored
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy.jpg", "sea.jpg"]
    listed = [one.caption async for one in client.user_media(ana, ana.user_id, page_size=2)]
    assert listed == ["sea"] * 3


async def test_a_cut_upload_is_sent_again_and_published_once(
    client: Client, ana: Session, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an iterator, which cannot be asked again."""
    monkeypatch.setattr(client_body, "CHUNK_BYTES", 100)
    read = client_body.Body.chunks
    cuts = 2

    async def cut_in_the_middle(self: client_body.Body) -> AsyncIterator[bytes]:
        nonlocal cuts
        sent = 0
        async for chunk in read(self):
            yield chunk
            sent += 1
            if sent == 3 and cuts:
                cuts -= 1
                proxy.cut()

    monkeypatch.setattr(client_body.Body, "chunks", cut_in_the_middle)
    item = await client.upload(ana, pieces(picture(), 70), "sea")
    assert (cuts, client.retries > 0) == (0, True)
    assert [one.id async for one in client.user_media(ana, ana.user_id)] == [item.id]


async def test_an_iterator_without_end_is_refused(
    client: Client, ana: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_body, "SPOOL_BYTES_MAX", 1_000)
    with pytest.raises(InvalidRequest):
        await client.upload(ana, pieces(bytes(10_000), 500))


async def test_pages_captions_and_deletion(client: Client, ana: Session) -> None:
    request_id = new_request_id()
    items = [await client.upload(ana, picture(), request_id=request_id) for _ in range(2)]
    assert items[0].id == items[1].id
    assert (await client.get_media(ana, [items[0].id])).items[0].id == items[0].id
    assert [one.id async for one in client.feed(ana)] == [items[0].id]
    assert await client.delete_media(ana, items[0].id)
    assert not (await client.get_media(ana, [items[0].id])).items


class Stored:
    """A MediaService that breaks off as told, and may announce what it does not send."""

    def __init__(self, *breaks: int, announced: bytes = STORED) -> None:
        self.breaks = list(breaks)
        self.announced = announced

    async def download_media(
        self, _: Call, request: pb.DownloadMediaRequest
    ) -> AsyncIterator[pb.DownloadMediaResponse]:
        header = pb.DownloadMediaHeader(
            size_bytes=len(self.announced), sha256=hashlib.sha256(self.announced).digest()
        )
        yield pb.DownloadMediaResponse(header=header)
        chunks = [STORED[at : at + 700] for at in range(0, len(STORED), 700)]
        breaks_at = self.breaks.pop(0) if self.breaks else len(chunks)
        for chunk in chunks[:breaks_at]:
            yield pb.DownloadMediaResponse(chunk=chunk)
        if breaks_at < len(chunks):
            raise StoreUnavailable("a break")


@pytest.mark.parametrize("breaks", [(), (0,), (3, 1, 5)])
async def test_a_broken_download_is_taken_up(breaks: tuple[int, ...]) -> None:
    async with serving([Service(MEDIA, Stored(*breaks))]) as world, Client(world.address) as client:
        ana = await client.register("ana", PASSWORD)
        download = client.downloading(ana, 1)
        chunks = [chunk async for chunk in download]
        assert b"".join(chunks) == STORED
        assert download.header.size_bytes == len(STORED)
        assert client.retries == len(breaks)


@pytest.mark.parametrize("announced", [STORED + b"x", STORED[:-1] + b"\0"])
async def test_damaged_bytes_are_told_and_never_a_file(announced: bytes, tmp_path: Path) -> None:
    stored = Stored(announced=announced)
    async with serving([Service(MEDIA, stored)]) as world, Client(world.address) as client:
        ana = await client.register("ana", PASSWORD)
        with pytest.raises(StoreUnavailable) as damaged:
            await client.download_to(ana, 1, tmp_path / "copy")
        assert damaged.value.reason == "DOWNLOAD_DAMAGED"
    assert not list(tmp_path.iterdir())
