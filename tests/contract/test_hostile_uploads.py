"""UploadMedia by those who mean harm: streams out of order or cut, files that are bombs or two."""

import asyncio
import struct
import uuid
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from social.v1 import media_pb2 as pb
from tests.hostile import PICTURE, RPCS, Attack, Outcome, attacked, until
from tests.hostile_count import tried
from tests.unit.films import film
from tests.unit.pictures import coded, drawing

UPLOAD = RPCS["UploadMedia"]
MARK = b"<script>mark-of-a-polyglot</script>"
PARALLEL = 100
SIDE_MAX, PIXELS_MAX = 3_000, 4_000_000
# Read as far as the picture needs, and no further.
DUDS = ("PNG, more bytes than pixels", "PNG, text of 64 MiB", "PNG, profile of 64 MiB")
JPEG, WEBP = coded(drawing(), "JPEG"), coded(drawing(), "WEBP")


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked(image_side_max=SIDE_MAX, image_pixels_max=PIXELS_MAX) as attack:
        yield attack


def header(**changed: Any) -> bytes:
    fields = {"request_id": str(uuid.uuid4()), **changed}
    return made(header=pb.UploadMediaHeader(**fields))


def chunk(data: bytes) -> bytes:
    return made(chunk=data)


def made(**part: Any) -> bytes:
    data: bytes = pb.UploadMediaRequest(**part).SerializeToString()
    return data


def png(width: int, height: int, packed: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """Chunks as given, with right checksums."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), *more, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def zeros(mib: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mib)) + packer.flush()


def bombs() -> dict[str, bytes]:
    small = zlib.compress(bytes((48 * 3 + 1) * 32))
    jpeg_size = JPEG.index(b"\xff\xc0") + 5
    return {
        "PNG, 2^31 wide": png(2**31 - 1, 2**31 - 1, small),
        "PNG, 100,000 wide": png(100_000, 100_000, zeros(8)),
        "PNG, wide as allowed, too many pixels": png(SIDE_MAX, SIDE_MAX, zeros(26)),
        "PNG, no pixels": png(0, 0, small),
        "PNG, more bytes than pixels": png(48, 32, zeros(64)),
        "PNG, text of 64 MiB": png(48, 32, small, (b"zTXt", b"x\0\0" + zeros(64))),
        "PNG, profile of 64 MiB": png(48, 32, small, (b"iCCP", b"x\0\0" + zeros(64))),
        "PNG, a chunk of 2 GiB": png(48, 32, small)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT",
        "JPEG, 65,500 wide": JPEG[:jpeg_size] + b"\xff\xdc\xff\xdc" + JPEG[jpeg_size + 4 :],
        "WebP, 16,384 wide": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0",
        "WebP, 4 GiB": b"RIFF\xff\xff\xff\xffWEBP" + WEBP[12:],
        "MP4, a box of 2^63": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\1moov" + b"\x7f" * 8,
        "MP4, boxes in boxes": film()[:24] + b"\0\0\0\x08moov" * 5000,
        "MP4, cut": film()[:-500],
    }


def polyglots() -> dict[str, bytes]:
    """Two files in one. Accepted or not: what does not belong to the picture is not kept."""
    comment = b"\xff\xfe" + struct.pack(">H", len(MARK) + 2) + MARK
    return {
        "PNG and HTML": PICTURE + MARK,
        "PNG and a zip": PICTURE + b"PK\x03\x04" + MARK,
        "PNG with a text": PICTURE[:33] + _chunk(b"tEXt", b"Comment\0" + MARK) + PICTURE[33:],
        "JPEG and HTML": JPEG + MARK,
        "JPEG with a comment": JPEG[:2] + comment + JPEG[2:],
        "WebP and HTML": WEBP + MARK,
        "MP4 and HTML": film() + MARK,
        "GIF that is a script": b"GIF89a/*" + bytes(100) + b"*/=1;" + MARK,
        "PDF in front": b"%PDF-1.7 " + MARK + PICTURE,
        "SVG": b"<svg onload='x'/>" + MARK * 10,
        "JPEG in name alone": b"\xff\xd8\xff\xe0" + MARK * 100,
        "PNG in name alone": b"\x89PNG\r\n\x1a\n" + MARK * 100,
    }


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


async def test_messages_out_of_order_and_sizes_that_lie(attack: Attack) -> None:
    half, rest = PICTURE[: len(PICTURE) // 2], PICTURE[len(PICTURE) // 2 :]
    announced = header(size_bytes=len(PICTURE))
    tries = {
        "UPLOAD_OUT_OF_ORDER": [
            [], [chunk(PICTURE)], [chunk(PICTURE), header()], [header(), header(), chunk(PICTURE)],
            [header(), chunk(half), header(), chunk(rest)], [header(), chunk(PICTURE), header()],
        ],
        "MEDIA_EMPTY": [[header()], [header(size_bytes=1)]],
        "MEDIA_SIZE_DIFFERS": [
            [announced, chunk(half)], [announced, chunk(PICTURE), chunk(b"x")],
            [header(size_bytes=1), chunk(PICTURE)],
        ],
        "MEDIA_TOO_LARGE": [[header(size_bytes=size)] for size in (2**63 - 1, 101 << 20)],
        "INVALID_FIELD": [
            [header(), chunk(b"")], [header(), b""], [header(size_bytes=-1), chunk(PICTURE)],
            [header(), chunk(bytes((1 << 20) + 1))], [b"", header(), chunk(PICTURE)],
        ],
        "MEDIA_TYPE_UNSUPPORTED": [
            [header(media_type="image/png"), chunk(b"\xff" * 200)],
            [header(), chunk(b"\0")], [header(), *[chunk(b"\0")] * 2000],
        ],
        "MEDIA_BROKEN": [[header(), chunk(half)]],
    }  # fmt: skip
    async with attack.nothing_written():
        for reason, streams in tries.items():
            for stream in streams:
                outcome = await attack.call("uploads out of order", UPLOAD, stream)
                assert outcome.reason == reason, outcome


async def test_a_bomb_is_refused_or_not_inflated(attack: Attack) -> None:
    for name, data in bombs().items():
        pieces = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
        outcome = await attack.call("bombs", UPLOAD, [header(), *map(chunk, pieces)])
        if outcome.ok:
            assert name in DUDS
            assert len(await downloaded(attack, published(outcome))) < 10_000
        else:
            assert outcome.code == grpc.StatusCode.INVALID_ARGUMENT, f"{name}: {outcome}"
            assert outcome.reason.startswith("MEDIA_"), f"{name}: {outcome}"
    await attack.others_are_served()


async def downloaded(attack: Attack, media_id: int) -> bytes:
    request = pb.DownloadMediaRequest(media_id=media_id)
    kept = await attack.call("allowed requests", RPCS["DownloadMedia"], request)
    return b"".join(pb.DownloadMediaResponse.FromString(one).chunk for one in kept.answers)


async def test_of_two_files_in_one_only_the_picture_is_kept(attack: Attack) -> None:
    for name, data in polyglots().items():
        outcome = await attack.call("polyglots", UPLOAD, [header(), chunk(data)])
        if not outcome.ok:
            assert outcome.reason in ("MEDIA_BROKEN", "MEDIA_TYPE_UNSUPPORTED"), outcome
            continue
        kept = await downloaded(attack, published(outcome))
        assert kept
        assert MARK not in kept, name


@pytest.mark.parametrize("messages", range(4))
async def test_an_upload_that_is_cut_leaves_nothing(attack: Attack, messages: int) -> None:
    """The client goes away behind this many messages."""
    pieces = [header(), chunk(PICTURE[:50]), chunk(PICTURE[50:90]), chunk(PICTURE[90:95])]
    async with attack.nothing_written():
        running: Any = attack.world.channel.stream_unary(UPLOAD.path)(
            metadata=attack.actor.metadata
        )
        for piece in pieces[:messages]:
            await running.write(piece)
        running.cancel()
        tried("uploads cut")
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not attack.world.parts.cleaner.room.taken_bytes)


async def test_one_user_uploads_a_hundred_at_once(attack: Attack) -> None:
    await attack.renew()
    before = attack._objects()
    uploads = [
        asyncio.create_task(
            attack.call(
                "parallel uploads", UPLOAD, [header(), chunk(PICTURE)], concurrent=True, timeout=120
            )
        )
        for _ in range(PARALLEL)
    ]
    while not all(upload.done() for upload in uploads):
        await attack.others_are_served()
    outcomes = [upload.result() for upload in uploads]
    done = [published(outcome) for outcome in outcomes if outcome.ok]
    assert done
    assert len(set(done)) == len(done)
    refused = {outcome.reason for outcome in outcomes if not outcome.ok}
    allowed = {"UPLOADS_BUSY", "UPLOADS_FULL", "TOO_MANY_STREAMS", "RATE_LIMITED", "OVERLOADED"}
    assert refused <= allowed, refused
    assert all(outcome.retry for outcome in outcomes if not outcome.ok)
    assert attack._objects() == before + len(done)
    assert not attack.world.parts.cleaner.room.taken_bytes


async def test_one_upload_sent_twenty_times_at_once_is_one_item(attack: Attack) -> None:
    sent = [header(), chunk(PICTURE)]
    outcomes = await asyncio.gather(
        *(attack.call("parallel uploads", UPLOAD, sent, concurrent=True) for _ in range(20))
    )
    assert len({published(outcome) for outcome in outcomes}) == 1


def published(outcome: Outcome) -> int:
    assert outcome.ok, outcome
    return pb.UploadMediaResponse.FromString(outcome.answers[0]).media.id
