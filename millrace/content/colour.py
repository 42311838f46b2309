"""Colours into sRGB, so that the profile, which is free text of its maker, need not be kept."""

import io
from typing import cast

from PIL import Image, ImageCms

# Distance, in steps of 255, at which two colours are the same to the eye.
_SAME_STEPS = 2
_CMYK = "CMYK"


def into_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """The picture in sRGB; None where its values mean sRGB already.

    A profile that is broken or for another kind of picture is disregarded, as browsers do.
    Alpha stays as it is. CMYK always comes back as RGB.
    """
    profile = _profile(icc)
    if image.mode == _CMYK:
        turned = _transformed(image, profile) if profile is not None else None
        return turned or image.convert("RGB")
    if profile is None or image.mode.startswith("I") or _is_srgb(profile):
        return None
    if image.mode in ("1", "L"):
        return _transformed(image.convert("L"), profile) or _transformed(
            image.convert("RGB"), profile
        )
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    turned = _transformed(image.convert("RGB"), profile)
    if turned is not None and alpha is not None:
        turned.putalpha(alpha)
    return turned


def _profile(icc: bytes) -> ImageCms.ImageCmsProfile | None:
    if not icc:
        return None
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (OSError, ImageCms.PyCMSError):
        return None


def _transformed(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """None where the profile is for pictures of another mode."""
    srgb = ImageCms.createProfile("sRGB")
    try:
        turned = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, ValueError, OSError):
        return None
    # It would be written into the new file.
    cast("Image.Image", turned).info.pop("icc_profile", None)
    return turned


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a cube of colours stays where it is under the profile."""
    steps = (0, 32, 64, 128, 192, 255)
    cube = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    before = Image.frombytes("RGB", (len(steps) ** 2, len(steps)), cube)
    after = _transformed(before, profile)
    if after is None:
        return False
    pairs = zip(cube, after.tobytes(), strict=True)
    return all(abs(a - b) <= _SAME_STEPS for a, b in pairs)
