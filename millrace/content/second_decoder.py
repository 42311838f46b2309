"""What FFmpeg says of a picture that Pillow has decoded.

Pillow does not pass on what libjpeg warns of, and does not say how a WebP is coded.
"""

from typing import cast

import av
from av.error import InvalidDataError
from av.video.codeccontext import VideoCodecContext

from millrace.content.limits import broken


def check_jpeg(data: bytes, pixels_max: int) -> None:
    """Raises InvalidRequest (MEDIA_BROKEN) where coded rows are missing.

    libjpeg makes them grey when a file is cut short and an end marker follows all the same. A
    JPEG of a sort that FFmpeg does not know is taken as it is.
    """
    try:
        _decoded("mjpeg", data, pixels_max)
    except InvalidDataError:
        raise broken("the JPEG is cut short") from None
    except av.FFmpegError:
        return


def is_lossless_webp(data: bytes, pixels_max: int) -> bool:
    """False where FFmpeg cannot tell."""
    try:
        # Its decoder gives RGB for lossless data and YUV, which is what is coded, for any other.
        return _decoded("webp", data, pixels_max) == "argb"
    except av.FFmpegError:
        return False


def _decoded(codec: str, data: bytes, pixels_max: int) -> str:
    """The name of the first frame's pixel format; empty where there is no frame."""
    context = cast("VideoCodecContext", VideoCodecContext.create(codec, "r"))
    context.options = {"err_detect": "explode", "max_pixels": str(pixels_max)}
    context.thread_count = 1
    frames = context.decode(av.Packet(data)) or context.decode(None)
    return frames[0].format.name if frames else ""
