"""A film as it may be kept: its first picture track and sound track, moved to a new container.

Frames are not coded anew. Tags, chapters, subtitles, data, time codes, attachments, cover
pictures, and messages within the video (H.264 and HEVC SEI, AV1 metadata, where cameras put
serial numbers and places) stay behind; the rotation stays. The first frame of the result was
decoded. The same input gives the same bytes.

The demuxer gets an open file and may open nothing else: no protocol, no file that the film
names.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, NoReturn

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from millrace.content.boxes import check_whole
from millrace.content.kind import HEAD_BYTES, Kind, kind_of
from millrace.content.limits import MEDIA_TYPE_UNSUPPORTED, Limits, broken, refused
from millrace.errors import InvalidRequest

# Which messages go: NAL unit types (SEI), and OBU types (metadata).
_MESSAGES = {"h264": "6", "hevc": "39|40", "av1": "5"}
_SOUNDS = frozenset(("aac", "mp3", "opus"))
_BUFFER_BYTES = 256 * 1024
_HALF_TURN = 180
# Opus has 400 a second at most, cameras 240 or a few more.
_FRAMES_A_SECOND_MAX = 1000


@dataclass(frozen=True, slots=True)
class Film:
    """What was written. `width` and `height` are what a viewer sees, rotation applied."""

    width: int
    height: int
    duration_ms: int


def clean_film(source: BinaryIO, out: BinaryIO, limits: Limits) -> Film:
    """Write the clean film of `source` to `out`; both are whole files, open and seekable.

    Raises InvalidRequest with one of the reasons of `limits.py`, and OSError when the disk of
    `out` is full; `out` is then of no use.
    """
    size_bytes = os.fstat(source.fileno()).st_size
    limits.check_video_bytes(size_bytes)
    source.seek(0)
    if kind_of(source.read(HEAD_BYTES)) is not Kind.MP4:
        raise refused(MEDIA_TYPE_UNSUPPORTED, "a film must be an MP4")
    check_whole(source, size_bytes)
    try:
        duration_ms = _move(source, size_bytes, out, limits)
        out.flush()
        return _proved(out, duration_ms, limits)
    except InvalidRequest:
        raise
    except MemoryError:
        raise broken("the film needs more memory than a film may") from None
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise broken("the film cannot be decoded") from error


def _refuse_to_open(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError("a film may not open other files")


def _open(file: BinaryIO, limits: Limits) -> InputContainer:
    file.seek(0)
    return av.open(
        file,
        "r",
        format="mp4",
        options={
            "protocol_whitelist": "",
            "enable_drefs": "0",
            "use_absolute_path": "0",
            "max_pixels": str(limits.video_side_max**2),
            "threads": "1",
        },
        buffer_size=_BUFFER_BYTES,
        io_open=_refuse_to_open,
    )


class _Track:
    """One stream on its way from one container to the other."""

    def __init__(self, stream: Any, out: OutputContainer) -> None:
        self._stream = out.add_stream_from_template(stream, opaque=True)
        types = _MESSAGES.get(_codec(stream))
        self._filter: BitStreamFilterContext | None = None
        if types is not None:
            units = f"filter_units=remove_types={types}"
            self._filter = BitStreamFilterContext(units, stream, self._stream)
            _clean_header(self._stream, units)
        self.packets = 0
        self.begin: Fraction | None = None
        self.end = Fraction(0)

    def filtered(self, packet: Packet[Any]) -> list[Packet[Any]]:
        return [packet] if self._filter is None else list(self._filter.filter(packet))

    def move(self, packet: Packet[Any], out: OutputContainer) -> None:
        self._measure(packet)
        for moved in self.filtered(packet):
            moved.stream = self._stream
            out.mux_one(moved)

    def _measure(self, packet: Packet[Any]) -> None:
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None or packet.time_base is None:
            raise broken("the film has a frame without a time")
        begin = at * packet.time_base
        self.begin = begin if self.begin is None else min(self.begin, begin)
        self.end = max(self.end, begin + (packet.duration or 0) * packet.time_base)
        self.packets += 1

    @property
    def duration_ms(self) -> int:
        return round((self.end - (self.begin or 0)) * 1000)


def _clean_header(stream: Any, units: str) -> None:
    """A codec's header can carry messages too, and the filter looks at packets only: so the
    header goes through it as one. By now it is written as packets are (annex B, rows of OBUs).
    """
    context = stream.codec_context
    if context.extradata is not None:
        kept = BitStreamFilterContext(units, stream).filter(Packet(context.extradata))
        context.extradata = b"".join(map(bytes, kept))


def _move(source: BinaryIO, size_bytes: int, out: BinaryIO, limits: Limits) -> int:
    """Returns the length in milliseconds."""
    with _open(source, limits) as film:
        limits.check_video_duration((film.duration or 0) // 1000)
        streams = _wanted(film)
        limits.check_video_sides(streams[0].codec_context.width, streams[0].codec_context.height)
        for stream in streams:
            _check_table(stream, size_bytes, limits)
        with _new_file(out) as clean:
            tracks = {stream.index: _Track(stream, clean) for stream in streams}
            for packet in film.demux(streams):
                if packet.size == 0:
                    continue
                if packet.is_corrupt:
                    raise broken("the film is cut short")
                track = tracks[packet.stream.index]
                track.move(packet, clean)
                limits.check_video_duration(track.duration_ms)
            if not tracks[streams[0].index].packets:
                raise broken("the film holds no frames")
        return max(track.duration_ms for track in tracks.values())


def _check_table(stream: Any, size_bytes: int, limits: Limits) -> None:
    """The table of frames is what its maker says: bound it before anything walks along it."""
    frames = stream.index_entries
    if len(frames) > limits.video_duration_max_s * _FRAMES_A_SECOND_MAX:
        raise broken("the film has more frames than its length allows")
    if any(frame.pos + frame.size > size_bytes for frame in frames):
        raise broken("the film is cut short")


def _wanted(film: InputContainer) -> list[Any]:
    """The first video stream, and the first audio stream if there is one."""
    videos = [
        stream for stream in film.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    if not videos:
        raise refused(MEDIA_TYPE_UNSUPPORTED, "the film has no video")
    if _codec(videos[0]) not in _MESSAGES:
        raise refused(MEDIA_TYPE_UNSUPPORTED, "a film's video must be H.264, HEVC or AV1")
    sounds = list(film.streams.audio[:1])
    if any(_codec(sound) not in _SOUNDS for sound in sounds):
        raise refused(MEDIA_TYPE_UNSUPPORTED, "a film's sound must be AAC, MP3 or Opus")
    return [videos[0], *sounds]


def _codec(stream: Any) -> str:
    """Name of the format, not of the decoder that happens to be there (libdav1d)."""
    context = stream.codec_context
    return "" if context is None else str(context.codec.canonical_name)


def _new_file(out: BinaryIO) -> OutputContainer:
    """`faststart` moves the table of frames to the front, for which the muxer reads back."""
    out.seek(0)
    out.truncate()

    def read_back(*_: Any, **__: Any) -> _ReadBack:
        out.flush()
        return _ReadBack(out.fileno())

    return av.open(
        out,
        "w",
        format="mp4",
        options={"movflags": "+faststart", "fflags": "+bitexact", "write_btrt": "0"},
        buffer_size=_BUFFER_BYTES,
        io_open=read_back,
    )


class _ReadBack:
    """A second, reading look at a file that is being written, with a place of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0

    def read(self, size: int) -> bytes:
        found = os.pread(self._descriptor, size, self._at)
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += os.fstat(self._descriptor).st_size
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """The file belongs to the caller."""


def _proved(out: BinaryIO, duration_ms: int, limits: Limits) -> Film:
    """Decode the first frame of what was written."""
    with _open(out, limits) as film:
        for frame in film.decode(video=0):
            limits.check_video_sides(frame.width, frame.height)
            width, height = frame.width, frame.height
            if frame.rotation % _HALF_TURN:
                width, height = height, width
            return Film(width, height, duration_ms)
    raise broken("the film's first frame cannot be decoded")
