"""A picture as it may be kept: same type, upright, in sRGB, and nothing in it but pixels.

Pillow decodes it, and codes its pixels anew: nothing else of the file that was sent gets into
the one that is written. PNG and lossless WebP keep every value; JPEG is coded with the tables
that it had. The same input gives the same bytes.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin

from millrace.content.colour import into_srgb
from millrace.content.kind import HEAD_BYTES, Kind, kind_of
from millrace.content.limits import (
    MEDIA_ANIMATED,
    MEDIA_TOO_MANY_PIXELS,
    MEDIA_TYPE_UNSUPPORTED,
    Limits,
    broken,
    refused,
)
from millrace.content.second_decoder import check_jpeg, is_lossless_webp
from millrace.errors import InvalidRequest

_JPEG_QUALITY = 92
_WEBP_QUALITY = 90
# The largest picture has to be coded within `clean_timeout_s`: Pillow's own choices take four
# times as long as these for files that are a few percent smaller (a third, lossless WebP).
_PNG_COMPRESS_LEVEL = 3
_WEBP_LOSSLESS = {"lossless": True, "exact": True, "method": 1, "quality": 0}


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
    if kind is None or kind is Kind.MP4:
        raise _unsupported()
    try:
        with warnings.catch_warnings():
            # What a decoder only warns of (a damaged tag) is no news: it goes.
            warnings.simplefilter("ignore")
            return _cleaned(kind, data, limits)
    except InvalidRequest:
        raise
    except Image.DecompressionBombError:
        raise refused(MEDIA_TOO_MANY_PIXELS, "the picture has too many pixels") from None
    except MemoryError:
        raise broken("the picture needs more memory than a picture may") from None
    except Exception as error:
        # Decoders raise whatever comes (SyntaxError, OSError, struct.error, …) on bad input.
        raise broken(f"the {kind.name} cannot be decoded") from error


def _unsupported() -> InvalidRequest:
    return refused(MEDIA_TYPE_UNSUPPORTED, "a picture must be a JPEG, a PNG or a WebP")


def _cleaned(kind: Kind, data: bytes, limits: Limits) -> Picture:
    image, icc, options = _decoded(kind, data, limits)
    image = into_srgb(image, icc) or image
    out = io.BytesIO()
    image.save(out, kind.name, **options)
    return Picture(kind, out.getvalue(), *image.size)


def _decoded(kind: Kind, data: bytes, limits: Limits) -> tuple[Image.Image, bytes, dict[str, Any]]:
    """The picture upright, its colour profile, and how to code it.

    The decoder ends here: what it holds of a large picture must not stay while one is coded.
    """
    source = _open(kind, data)
    # A JPEG may hold further pictures (MPO: a gain map, a second eye); the first one stays.
    if kind is not Kind.JPEG and getattr(source, "is_animated", False):
        raise refused(MEDIA_ANIMATED, "the picture is animated; send a film (MP4) instead")
    if kind is Kind.GIF:
        raise _unsupported()
    limits.check_image_sides(*source.size)
    if kind is Kind.PNG:
        # Checksums, and all up to the end, which `load` does not look at.
        _open(kind, data).verify()
    source.load()
    image = _pixels(source)
    _turn_upright(image, source)
    icc = source.info.get("icc_profile") or b""
    return image, icc, _how_to_code(kind, source, data, limits)


def _open(kind: Kind, data: bytes) -> ImageFile.ImageFile:
    """One decoder, chosen by us: Pillow's own choice would try all that it knows."""
    return Image.open(io.BytesIO(data), formats=[kind.name])


def _pixels(source: ImageFile.ImageFile) -> Image.Image:
    """The values alone, with their palette and with the colour that means transparent."""
    image = source.copy()
    image.info = {key: source.info[key] for key in ("transparency",) if key in source.info}
    return image


def _turn_upright(image: Image.Image, source: ImageFile.ImageFile) -> None:
    """As EXIF says that `source` is to be seen; a broken block loses its say."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - it may raise anything
        return
    # Only this tag: writing the others back, which Pillow would do, may fail.
    image.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(image, in_place=True)


def _how_to_code(
    kind: Kind, source: ImageFile.ImageFile, data: bytes, limits: Limits
) -> dict[str, Any]:
    """Options of `save` by which a file is as like its `source` as the format allows."""
    if isinstance(source, JpegImagePlugin.JpegImageFile):
        check_jpeg(data, limits.image_pixels_max)
        return _jpeg_options(source)
    if kind is Kind.PNG:
        return {"compress_level": _PNG_COMPRESS_LEVEL, "pnginfo": _gamma(source)}
    if is_lossless_webp(data, limits.image_pixels_max):
        return _WEBP_LOSSLESS
    return {"quality": _WEBP_QUALITY}


def _jpeg_options(source: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """The source's quantisation tables and subsampling, so that little is lost a second time."""
    if source.mode == "CMYK":
        return {"quality": _JPEG_QUALITY, "subsampling": 0}
    sampling = JpegImagePlugin.get_sampling(source)
    return {
        "qtables": source.quantization,
        "subsampling": sampling if sampling >= 0 else 0,
        "progressive": bool(source.info.get("progressive")),
    }


def _gamma(source: ImageFile.ImageFile) -> PngImagePlugin.PngInfo:
    """How light the values of a PNG mean to be, where a profile has not said it already."""
    chunks = PngImagePlugin.PngInfo()
    gamma = source.info.get("gamma")
    if gamma and "icc_profile" not in source.info and "srgb" not in source.info:
        chunks.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    return chunks
