"""What a film is, and what is left of it: against files coded here by FFmpeg."""

import errno
import io
import random
import tempfile
from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext

from millrace.content import film as film_module
from millrace.content.film import Film, clean_film
from millrace.content.limits import (
    MEDIA_BROKEN,
    MEDIA_TOO_LARGE,
    MEDIA_TOO_LONG,
    MEDIA_TOO_MANY_PIXELS,
    MEDIA_TYPE_UNSUPPORTED,
)
from millrace.errors import InvalidRequest
from tests.unit.films import SECRET, SIZE, box, film
from tests.unit.pictures import LIMITS


def cleaned(data: bytes) -> tuple[Film, bytes]:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out:
        source.write(data)
        source.flush()
        found = clean_film(source, out, LIMITS)
        out.seek(0)
        return found, out.read()


def test_a_full_disk_is_not_the_films_fault() -> None:
    with tempfile.TemporaryFile() as source:
        source.write(film())
        source.flush()
        with pytest.raises(OSError, match="No space left"):
            clean_film(source, Full(), LIMITS)


class Full(io.BytesIO):
    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def reason_of(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        cleaned(data)
    return refused.value.reason


def frames_of(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as made:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in made.decode(video=0)]


def streams_of(data: bytes) -> list[tuple[str, str]]:
    with av.open(io.BytesIO(data), "r") as made:
        return [(one.type, one.codec_context.codec.canonical_name) for one in made.streams]


@pytest.mark.parametrize("movflags", ["", "faststart", "frag_keyframe+empty_moov"])
@pytest.mark.parametrize(
    ("video", "audio"),
    [("libx264", "aac"), ("libx265", "libopus"), ("libsvtav1", "libmp3lame"), ("libx264", None)],
)
def test_frames_stay_and_nothing_that_was_said(
    video: str, audio: str | None, movflags: str
) -> None:
    sent = film(video=video, audio=audio, movflags=movflags, tags=True)
    assert SECRET in sent
    found, data = cleaned(sent)
    assert (found.width, found.height) == SIZE
    assert 900 <= found.duration_ms <= 1_300
    assert frames_of(data) == frames_of(sent)
    for word in (SECRET, b"x264", b"x265", b"Lavf", b"\xa9nam", b"\xa9too", b"chpl"):
        assert word not in data
    assert [kind for kind, _ in streams_of(data)] == ["video", "audio"][: 2 if audio else 1]
    assert data.find(b"moov") < data.find(b"mdat")


def test_cleaning_twice_gives_the_same_bytes() -> None:
    sent = film(tags=True)
    once = cleaned(sent)
    assert cleaned(sent) == once
    assert cleaned(once[1]) == once


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_the_rotation_stays(turned: int) -> None:
    found, data = cleaned(film(turned=turned))
    assert (found.width, found.height) == (SIZE if turned == 180 else SIZE[::-1])
    with av.open(io.BytesIO(data), "r") as made:
        assert next(made.decode(video=0)).rotation % 360 == turned


def test_data_tracks_stay_behind() -> None:
    sent = io.BytesIO(film(audio=None))
    out = io.BytesIO()
    with av.open(sent, "r") as source, av.open(out, "w", format="mp4") as made:
        video = made.add_stream_from_template(source.streams.video[0], opaque=True)
        data = made.add_data_stream("bin_data")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                made.mux_one(packet)
        text = av.Packet(SECRET)
        text.stream, text.pts, text.dts, text.duration = data, 0, 0, 500
        made.mux_one(text)
    assert SECRET in out.getvalue()
    _, clean = cleaned(out.getvalue())
    assert SECRET not in clean
    assert streams_of(clean) == [("video", "h264")]


def test_quicktime_becomes_mp4() -> None:
    _, data = cleaned(film(container="mov"))
    assert data[4:12] == b"ftypisom"


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_a_film_cut_short_anywhere_is_broken(movflags: str) -> None:
    whole = film(frames=3, movflags=movflags)
    cleaned(whole)
    for length in range(len(whole)):
        assert reason_of(whole[:length]) in (MEDIA_BROKEN, MEDIA_TYPE_UNSUPPORTED), length


def test_frames_that_are_not_in_the_file_are_missed() -> None:
    """All boxes are whole; the table points behind the end."""
    whole = film(frames=3, movflags="faststart")
    at = whole.index(b"stco") + 12
    offset = int.from_bytes(whole[at : at + 4], "big")
    moved = whole[:at] + (offset + len(whole)).to_bytes(4, "big") + whole[at + 4 :]
    assert reason_of(moved) == MEDIA_BROKEN


def test_damage_is_refused_or_does_no_harm() -> None:
    """Flips in the frames, which FFmpeg's muxer does not interpret: see the worker's tests for
    what may hang.
    """
    chance = random.Random(7)
    whole = film(frames=3)
    start, end = whole.index(b"mdat") + 4, whole.index(b"moov") - 4
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(start, end)] = chance.randrange(256)
        try:
            found, _ = cleaned(bytes(data))
        except InvalidRequest:
            continue
        assert (found.width, found.height) == SIZE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (film(size=(514, 16), audio=None), MEDIA_TOO_MANY_PIXELS),
        (film(frames=60, audio=None), MEDIA_TOO_LONG),
        (film(video="", audio="aac"), MEDIA_TYPE_UNSUPPORTED),
        (film(video="libvpx-vp9", audio=None), MEDIA_TYPE_UNSUPPORTED),
        (film(video="mpeg4", audio=None), MEDIA_TYPE_UNSUPPORTED),
        (film(audio="ac3"), MEDIA_TYPE_UNSUPPORTED),
        (film() + b"\x00" * 1_000_000, MEDIA_TOO_LARGE),
        (film(container="matroska"), MEDIA_TYPE_UNSUPPORTED),
        (b"", MEDIA_TYPE_UNSUPPORTED),
        (box(b"ftyp", b"isom" * 3), MEDIA_BROKEN),
        (box(b"ftyp", b"isom" * 3) + box(b"moov", b"") + box(b"mdat", b""), MEDIA_TYPE_UNSUPPORTED),
        (box(b"ftyp", b"avif" * 3) + box(b"moov", b"") + box(b"mdat", b""), MEDIA_TYPE_UNSUPPORTED),
    ],
    ids=[
        "wide", "long", "sound only", "vp9", "mpeg4", "ac3", "large", "matroska", "empty",
        "no table", "empty table", "a still picture",
    ],
)  # fmt: skip
def test_other_films_are_refused(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("careless", [False, True])
def test_a_film_cannot_name_another_file(tmp_path: Path, careless: bool) -> None:
    """Its frames are said to be in a file beside it, which is there and holds them.

    `careless`: the same film opened so that FFmpeg obeys does ask for the other file.
    """
    whole = film(audio=None, movflags="faststart")
    hidden = tmp_path / "hidden.mp4"
    hidden.write_bytes(whole)
    old = _references(box(b"url ", b"\x00\x00\x00\x01"))
    assert old in whole
    new = _references(_alias(str(hidden).encode()))
    crafted = _grown(whole, old, new, (b"moov", b"trak", b"mdia", b"minf", b"dinf"))
    asked: list[str] = []

    def spy(url: str, *_: object) -> None:
        asked.append(url)
        raise PermissionError(url)

    if careless:
        obeying = {"enable_drefs": "1", "use_absolute_path": "1"}
        with pytest.raises(PermissionError):
            av.open(io.BytesIO(crafted), "r", options=obeying, io_open=spy)
        assert asked == [str(hidden)]
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("millrace.content.film._refuse_to_open", spy)
        assert reason_of(crafted) == MEDIA_BROKEN
    assert asked == []


def _references(reference: bytes) -> bytes:
    return box(b"dref", b"\x00" * 4 + (1).to_bytes(4, "big") + reference)


def _alias(path: bytes) -> bytes:
    """A Macintosh alias: 150 bytes that do not matter here, then the path as entry 2."""
    padded = path + b"\x00" * (len(path) % 2)
    entry = (2).to_bytes(2, "big") + len(path).to_bytes(2, "big") + padded
    return box(b"alis", b"\x00" * 4 + b"\x00" * 150 + entry + b"\xff\xff\x00\x00")


def _grown(data: bytes, old: bytes, new: bytes, inside: tuple[bytes, ...]) -> bytes:
    """`old` replaced by `new`, with the sizes of the boxes around it put right."""
    grown = bytearray(data.replace(old, new))
    for name in inside:
        at = grown.index(name) - 4
        size = int.from_bytes(grown[at : at + 4], "big") + len(new) - len(old)
        grown[at : at + 4] = size.to_bytes(4, "big")
    return bytes(grown)


def test_messages_leave_the_headers() -> None:
    """hvcC and av1C can hold them beside what the decoder needs; x265 writes one there."""
    for video, begin, message in (
        ("libx265", b"\x00\x00\x00\x01\x4e\x01", b"\x05" + bytes((16 + len(SECRET),)) + b"u" * 16),
        ("libsvtav1", bytes((5 << 3 | 2, 2 + len(SECRET))), b"\x04"),
    ):
        sent = io.BytesIO(film(video=video, audio=None))
        with av.open(sent, "r") as source, av.open(io.BytesIO(), "w", format="mp4") as made:
            track = source.streams.video[0]
            moved = made.add_stream_from_template(track, opaque=True)
            units = "filter_units=remove_types=" + film_module._MESSAGES[track.codec.canonical_name]
            BitStreamFilterContext(units, track, moved)
            film_module._clean_header(moved, units)
            kept = moved.codec_context.extradata or b""
            moved.codec_context.extradata = kept + begin + message + SECRET + b"\x80"
            film_module._clean_header(moved, units)
            assert moved.codec_context.extradata == kept
            assert b"x265" not in kept
