"""Small pictures for tests: of every kind, with whatever a camera would write into them."""

import io
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin

from millrace.content.limits import Limits

SECRET = "SECRET-52.5200N-13.4050E"
GPS, ORIENTATION, DESCRIPTION = 0x8825, 0x0112, 0x010E
KINDS = ("JPEG", "PNG", "WEBP", "WEBP lossless")
LIMITS = Limits(
    image_bytes_max=1_000_000,
    image_pixels_max=1_000_000,
    image_side_max=2_000,
    video_bytes_max=1_000_000,
    video_side_max=512,
    video_duration_max_s=4,
)


def drawing(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """Four corners of four colours, so that every way to turn it shows."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    half = (width // 2, height // 2)
    image.paste((30, 160, 30), (half[0], 0, width, half[1]))
    image.paste((30, 30, 200), (0, half[1], half[0], height))
    image.paste((240, 240, 60), (*half, width, height))
    if mode == "RGBA":
        image = image.convert("RGBA")
        image.putalpha(Image.linear_gradient("L").resize((width, height)))
        return image
    return image.convert(mode)


def coded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    name, _, lossless = kind.partition(" ")
    if name == "JPEG":
        options = {"quality": 90, "subsampling": 0, **options}
    image.save(out, name, **options, **({"lossless": True} if lossless else {}))
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    block[DESCRIPTION] = SECRET
    block.get_ifd(GPS)[29] = SECRET
    return block


def full_of_secrets(kind: str, orientation: int = 1) -> bytes:
    """A picture with metadata wherever its format has a place."""
    image = drawing()
    options: dict[str, Any] = {"exif": exif(orientation), "xmp": SECRET.encode()}
    if kind == "JPEG":
        options["comment"] = SECRET
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", SECRET)
        text.add_text("Comment", SECRET, zip=True)
        text.add_itxt("Location", SECRET)
        text.add(b"prVt", SECRET.encode())
        options["pnginfo"] = text
        options.pop("xmp")
    data = coded(image, kind, **options)
    if kind == "JPEG":
        data = data[:2] + b"".join(map(_segment, (0xED, 0xEC, 0xE2))) + data[2:]
    return data + SECRET.encode()


def _segment(marker: int) -> bytes:
    body = b"Photoshop 3.0\x00" + SECRET.encode()
    return b"\xff" + bytes((marker,)) + (len(body) + 2).to_bytes(2, "big") + body


def other_profile() -> bytes:
    """A profile with the gamma of another world: sRGB's colours look different under it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged: easy to see whether it was obeyed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        name = bytes(profile[at : at + 4])
        if name in (b"rXYZ", b"bXYZ"):
            profile[at : at + 4] = b"bXYZ" if name == b"rXYZ" else b"rXYZ"
    return bytes(profile)
