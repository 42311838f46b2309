"""A picture as it may be kept: same type, same pixels, upright, in sRGB, nothing else in it.

Where the pixels can stay as they are coded (most pictures), they do: the file's container is
rebuilt around them, so cleaning twice gives the same bytes and nothing ever degrades. Where
they have to be turned or put into sRGB they are coded anew, a JPEG with its own tables.
Either way the result was decoded before it is returned. The same input gives the same bytes.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from millrace.content import jpeg, png, webp
from millrace.content.colour import into_srgb
from millrace.content.kind import HEAD_BYTES, Kind, kind_of
from millrace.content.limits import (
    MEDIA_ANIMATED,
    MEDIA_TYPE_UNSUPPORTED,
    Limits,
    broken,
    refused,
)
from millrace.content.stripped import Stripped
from millrace.errors import InvalidRequest

_STRIP = {Kind.JPEG: jpeg.strip, Kind.PNG: png.strip, Kind.WEBP: webp.strip}
_WEBP_QUALITY = 90
_CMYK_QUALITY = 92
# Orientation of EXIF to what undoes it.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A clean picture, upright: `width` and `height` are what a viewer sees."""

    kind: Kind
    data: bytes
    width: int
    height: int


def clean_picture(data: bytes, limits: Limits) -> Picture:
    """Raises InvalidRequest with one of the reasons of `limits.py`.

    Bytes, sides and pixels are checked before anything is decoded.
    """
    kind = kind_of(data[:HEAD_BYTES])
    limits.check_image_bytes(len(data))
    if kind is Kind.GIF:
        raise _gif_refusal(data)
    if kind is None or kind not in _STRIP:
        raise refused(MEDIA_TYPE_UNSUPPORTED, "a picture must be a JPEG, a PNG or a WebP")
    with warnings.catch_warnings():
        # What a decoder only warns of (a damaged tag) is no news: it goes.
        warnings.simplefilter("ignore")
        return _cleaned(kind, data, limits)


def _cleaned(kind: Kind, data: bytes, limits: Limits) -> Picture:
    stripped = _STRIP[kind](data)
    if stripped.animated:
        raise refused(MEDIA_ANIMATED, "the picture is animated; send a film (MP4) instead")
    limits.check_image_sides(stripped.width, stripped.height)
    try:
        return _decoded(kind, stripped)
    except InvalidRequest:
        raise
    except MemoryError:
        raise broken("the picture needs more memory than a picture may") from None
    except Exception as error:
        # Decoders raise whatever comes (SyntaxError, OSError, struct.error, …) on bad input.
        raise broken(f"the {kind.name} cannot be decoded") from error


def _decoded(kind: Kind, stripped: Stripped) -> Picture:
    image = _open(kind, stripped.data)
    if image.size != (stripped.width, stripped.height):
        raise broken(f"the {kind.name} has two sizes")
    image.load()
    turned: Image.Image | None = into_srgb(image, stripped.icc)
    if stripped.orientation in _UPRIGHT:
        turned = (turned or image).transpose(_UPRIGHT[stripped.orientation])
    if turned is None:
        return Picture(kind, stripped.data, stripped.width, stripped.height)
    return Picture(kind, _coded(kind, image, turned, stripped), *turned.size)


def _open(kind: Kind, data: bytes) -> ImageFile.ImageFile:
    """One decoder, chosen by us: Pillow's own choice would try all that it knows."""
    source: Any = io.BytesIO(data)
    if kind is Kind.JPEG:
        return JpegImagePlugin.JpegImageFile(source)
    if kind is Kind.PNG:
        return PngImagePlugin.PngImageFile(source)
    return WebPImagePlugin.WebPImageFile(source)


def _coded(kind: Kind, source: ImageFile.ImageFile, image: Image.Image, was: Stripped) -> bytes:
    """`image` as a new file that is as like its `source` as the format allows."""
    out = io.BytesIO()
    if kind is Kind.JPEG:
        image.save(out, "JPEG", **_jpeg_options(source), optimize=True)
    elif kind is Kind.PNG:
        chunks = PngImagePlugin.PngInfo()
        # Once in sRGB, the old meaning of the values is gone.
        for name, body in () if was.icc else was.colour:
            chunks.add(name, body)
        image.save(out, "PNG", pnginfo=chunks)
    elif was.lossless:
        image.save(out, "WEBP", lossless=True, exact=True)
    else:
        image.save(out, "WEBP", quality=_WEBP_QUALITY)
    return _STRIP[kind](out.getvalue()).data


def _jpeg_options(source: ImageFile.ImageFile) -> dict[str, Any]:
    """The source's quantisation tables and subsampling, so that little is lost a second time."""
    if not isinstance(source, JpegImagePlugin.JpegImageFile) or source.mode == "CMYK":
        return {"quality": _CMYK_QUALITY, "subsampling": 0}
    sampling = JpegImagePlugin.get_sampling(source)
    progressive = bool(source.info.get("progressive"))
    return {
        "qtables": source.quantization,
        "subsampling": sampling if sampling >= 0 else 0,
        "progressive": progressive,
    }


def _gif_refusal(data: bytes) -> InvalidRequest:
    try:
        animated = GifImagePlugin.GifImageFile(io.BytesIO(data)).is_animated
    except Exception:  # noqa: BLE001 - refused in any case; this only chooses the word
        animated = False
    if animated:
        return refused(MEDIA_ANIMATED, "the picture is animated; send a film (MP4) instead")
    return refused(MEDIA_TYPE_UNSUPPORTED, "a picture must be a JPEG, a PNG or a WebP")
