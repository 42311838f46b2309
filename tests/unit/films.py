"""Small films for tests, coded here, with whatever a camera would write into them."""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SECRET = b"SECRET+52.52+013.40/"
SIZE = (64, 48)
RATE = 10
SOUND_RATE = 48_000


def film(
    *,
    video: str = "libx264",
    audio: str | None = "aac",
    frames: int = 10,
    size: tuple[int, int] = SIZE,
    movflags: str = "",
    turned: int = 0,
    tags: bool = False,
    container: str = "mp4",
) -> bytes:
    """`video` may be "" for sound alone."""
    with tempfile.TemporaryDirectory() as folder:
        # `faststart` opens the file a second time, by its name.
        path = Path(folder) / "film.mp4"
        _make(path, video, audio, frames, size, movflags, turned, tags, container)
        return path.read_bytes()


def _make(
    path: Path,
    video: str,
    audio: str | None,
    frames: int,
    size: tuple[int, int],
    movflags: str,
    turned: int,
    tags: bool,
    container: str,
) -> None:
    options = {"movflags": movflags} if movflags else {}
    with av.open(path, "w", format=container, options=options) as made:
        if tags:
            _say_too_much(made)
        pictures = _video(made, video, size, turned) if video else None
        sound = _audio(made, audio, tags) if audio else None
        for n in range(frames):
            if pictures is not None:
                made.mux(pictures.encode(_frame(n, size)))
        for n in range(frames * 5):
            if sound is not None:
                made.mux(sound.encode(_silence(n, sound)))
        for stream in (pictures, sound):
            if stream is not None:
                made.mux(stream.encode())


def _say_too_much(made: Any) -> None:
    said = SECRET.decode()
    made.metadata.update({"title": said, "location": said, "comment": said, "artist": said})
    made.set_chapters(
        [
            {
                "id": 1,
                "start": 0,
                "end": 500,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": said},
            }
        ]
    )


def _video(made: Any, codec: str, size: tuple[int, int], turned: int) -> Any:
    stream = made.add_stream(codec, rate=RATE)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.metadata["handler_name"] = SECRET.decode()
    if turned:
        stream.set_display_rotation(turned)
    return stream


def _audio(made: Any, codec: str, tags: bool) -> Any:
    stream = made.add_stream(codec, rate=SOUND_RATE)
    if tags:
        stream.metadata["handler_name"] = SECRET.decode()
        stream.metadata["language"] = "por"
    return stream


def _frame(n: int, size: tuple[int, int]) -> av.VideoFrame:
    width, height = size
    pixels = np.full((height, width, 3), n * 20 % 255, np.uint8)
    pixels[: height // 2, : width // 2] = (220, 40, 40)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def _silence(n: int, stream: Any) -> av.AudioFrame:
    samples = stream.frame_size or 960
    format_name = stream.format.name
    kind = {"s16": np.int16, "s32": np.int32, "flt": np.float32}[format_name[:3]]
    shape = (stream.channels, samples) if format_name.endswith("p") else (1, samples * 2)
    frame = av.AudioFrame.from_ndarray(
        np.zeros(shape, kind), format=format_name, layout=stream.layout.name
    )
    frame.rate = SOUND_RATE
    frame.pts = n * samples
    return frame


def box(name: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + name + body
