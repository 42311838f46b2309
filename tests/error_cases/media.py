"""Cases of MediaService."""

import dataclasses
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from PIL import Image

from social.v1 import media_pb2, media_pb2_grpc
from tests.error_cases.register import NOBODY, alike, case, request_id
from tests.serving import Person, Refusal, World, refusal
from tests.unit.films import film


def picture(form: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 32), "teal").save(out, form, **options)
    return out.getvalue()


def header(data: bytes, **changed: Any) -> media_pb2.UploadMediaRequest:
    fields = {"request_id": request_id(), "size_bytes": len(data), **changed}
    return media_pb2.UploadMediaRequest(header=media_pb2.UploadMediaHeader(**fields))


def chunk(data: bytes) -> media_pb2.UploadMediaRequest:
    return media_pb2.UploadMediaRequest(chunk=data)


def stub(world: World) -> Any:
    return media_pb2_grpc.MediaServiceStub(world.channel)


def send(world: World, who: Person, *sent: media_pb2.UploadMediaRequest) -> Any:
    async def stream(
        sent: Sequence[media_pb2.UploadMediaRequest],
    ) -> AsyncIterator[media_pb2.UploadMediaRequest]:
        for one in sent:
            yield one

    return stub(world).UploadMedia(stream(sent), metadata=who.metadata)


def upload(world: World, who: Person, data: bytes, **changed: Any) -> Any:
    return send(world, who, header(data, **changed), chunk(data))


def limit(world: World, patched: pytest.MonkeyPatch, **changed: int) -> None:
    cleaner = world.parts.cleaner
    patched.setattr(cleaner, "limits", dataclasses.replace(cleaner.limits, **changed))


@case("UploadMedia: no header, a second one, or a chunk before it")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    data = picture()
    tries = [
        send(world, ana),
        send(world, ana, chunk(data), header(data)),
        send(world, ana, header(data), header(data)),
    ]
    refused = [await refusal(one) for one in tries]
    assert len({(one.code, one.reason) for one in refused}) == 1
    return refused[0]


@case("UploadMedia: no bytes")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(send(world, ana, header(b"")))


@case("UploadMedia: more or fewer bytes than announced")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(upload(world, ana, picture(), size_bytes=7))


@case("UploadMedia: too many bytes, announced or sent")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    limit(world, patched, image_bytes_max=100, video_bytes_max=100)
    announced = await refusal(send(world, ana, header(b"", size_bytes=101)))
    sent = await refusal(upload(world, ana, picture(), size_bytes=0))
    assert announced.reason == sent.reason
    return sent


@case("UploadMedia: no JPEG, PNG, WebP or MP4, whatever its name")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(upload(world, ana, b"<svg/>" * 20, media_type="image/jpeg"))


@case("UploadMedia: a broken file")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    return await refusal(upload(world, ana, picture("PNG")[:-40]))


@case("UploadMedia: an animated picture")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    frames = [Image.new("RGB", (64, 32), colour) for colour in ("red", "blue")]
    return await refusal(upload(world, ana, picture("WEBP", save_all=True, append_images=frames)))


@case("UploadMedia: too many pixels")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    limit(world, patched, image_side_max=63)
    return await refusal(upload(world, ana, picture()))


@case("UploadMedia: too long a film")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    limit(world, patched, video_duration_max_s=0)
    return await refusal(upload(world, ana, film()))


@case("UploadMedia: a request_id again with another body")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    once = request_id()
    await upload(world, ana, picture(), request_id=once)
    return await refusal(upload(world, ana, picture(), request_id=once, caption="other"))


@case("UploadMedia: a retry, and the item has been deleted since")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    once = request_id()
    item = (await upload(world, ana, picture(), request_id=once)).media
    request = media_pb2.DeleteMediaRequest(request_id=request_id(), media_id=item.id)
    await stub(world).DeleteMedia(request, metadata=ana.metadata)
    return await refusal(upload(world, ana, picture(), request_id=once))


@case("UploadMedia: too many uploads wait for this process")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    cleaner = world.parts.cleaner
    none = world.parts.settings.model_copy(update={"uploads_waiting_max": 0})
    patched.setattr(cleaner, "_settings", none)
    patched.setattr(cleaner._slots, "locked", lambda: True)
    return await refusal(upload(world, ana, picture()))


@case("UploadMedia: no room for more uploads in this process")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.cleaner.room, "_bytes_max", 10)
    return await refusal(upload(world, ana, picture()))


@case("UploadMedia: the disk for uploads is full, or away")
async def _(world: World, ana: Person, patched: pytest.MonkeyPatch) -> Refusal:
    patched.setattr(world.parts.cleaner.room, "folder", "gone")
    return await refusal(upload(world, ana, picture()))


@case("ListUserMedia: no such user")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    request = media_pb2.ListUserMediaRequest(user_id=NOBODY)
    return await refusal(stub(world).ListUserMedia(request, metadata=ana.metadata))


@case("DeleteMedia: no such item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    request = media_pb2.DeleteMediaRequest(request_id=request_id(), media_id=NOBODY)
    return await alike(ana, (stub(world).DeleteMedia, request))


@case("DeleteMedia: somebody else's item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    item = (await upload(world, ana, picture())).media
    ben = await world.register("ben")
    request = media_pb2.DeleteMediaRequest(request_id=request_id(), media_id=item.id)
    return await refusal(stub(world).DeleteMedia(request, metadata=ben.metadata))


@case("DownloadMedia: no such item")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    request = media_pb2.DownloadMediaRequest(media_id=NOBODY)
    return await refusal(stub(world).DownloadMedia(request, metadata=ana.metadata).read())


@case("DownloadMedia: a rendition")
async def _(world: World, ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    small = media_pb2.RENDITION_SMALL
    request = media_pb2.DownloadMediaRequest(media_id=NOBODY, rendition=small)
    return await refusal(stub(world).DownloadMedia(request, metadata=ana.metadata).read())
