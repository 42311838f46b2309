"""A slow object store, as clients meet it: bytes wait, everything else is answered."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
import obstore
import pytest

from millrace.stores.objects_local import LocalFiles
from social.v1 import media_pb2 as pb
from social.v1 import media_pb2_grpc
from tests.contract.test_media import picture, requests, upload
from tests.serving import Person, World, new_request_id, refusal, serving

PATIENCE_S = 60.0


@dataclass
class Slow:
    """Under the store's port: what puts or gets bytes waits for the gate, and is counted."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def begin(self, patched: pytest.MonkeyPatch) -> None:
        put, get = LocalFiles.put, obstore.get_async

        async def slow_put(files: LocalFiles, *arguments: Any) -> None:
            await self._passed()
            await put(files, *arguments)

        async def slow_get(*arguments: Any) -> Any:
            await self._passed()
            return await get(*arguments)

        patched.setattr(LocalFiles, "put", slow_put)
        patched.setattr(obstore, "get_async", slow_get)

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.waiting < count:
                await asyncio.sleep(0.01)

    async def _passed(self) -> None:
        self.waiting += 1
        await self.gate.wait()


async def download(world: World, person: Person, media_id: int) -> bytes:
    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    request = pb.DownloadMediaRequest(media_id=media_id)
    parts = stub.DownloadMedia(request, metadata=person.metadata, timeout=PATIENCE_S)
    return b"".join([part.chunk async for part in parts])


async def test_bytes_wait_for_a_slow_store_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        ana = await world.register("ana")
        item = await upload(world, ana, requests(picture(), new_request_id()))
        slow = Slow()
        slow.begin(monkeypatch)
        uploading = asyncio.create_task(
            upload(world, ana, requests(picture("red"), new_request_id()))
        )
        downloading = asyncio.create_task(download(world, ana, item.id))
        await slow.until_waiting(2)
        stub = media_pb2_grpc.MediaServiceStub(world.channel)
        got = await stub.GetMedia(pb.GetMediaRequest(media_ids=[item.id]), metadata=ana.metadata)
        assert [one.id for one in got.items] == [item.id]
        assert [uploading.done(), downloading.done()] == [False, False]
        slow.gate.set()
        assert len(await downloading) == item.size_bytes
        assert (await uploading).id > item.id


async def test_a_store_that_is_too_slow_is_unavailable_and_a_retry_does_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as world:
        ana = await world.register("ana")
        item = await upload(world, ana, requests(picture(), new_request_id()))
        sent = requests(picture("red"), new_request_id())
        with monkeypatch.context() as patched:
            Slow().begin(patched)
            patched.setattr(world.parts.objects, "_timeout_s", 0.05)
            for call in (upload(world, ana, sent), download(world, ana, item.id)):
                refused = await refusal(call)
                assert (refused.code, refused.reason) == (
                    grpc.StatusCode.UNAVAILABLE,
                    "STORE_UNAVAILABLE",
                )
        assert len(await download(world, ana, item.id)) == item.size_bytes
        assert (await upload(world, ana, sent)).id > item.id
