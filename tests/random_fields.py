"""What random requests are filled with: right, on the limit, and breaking each field's rule."""

import hashlib
import io
from typing import Any

from PIL import Image

from millrace.oracle import Content
from social.v1 import media_pb2

PASSWORDS = ("correct horse", "battery staple", "Tr0ub4dor&3")
TEXTS = ("", "a", "hello", "ünïcödé 🙂", "x" * 60)

# By the name of the field, wherever it stands.
BROKEN: dict[str, tuple[Any, ...]] = {
    "request_id": ("", "no-uuid", "0" * 36),
    "handle": ("", "ab", "a" * 31, "with blank", "ünï", "a\n"),
    "password": ("", "short", "x" * 129),
    "new_password": ("short", "x" * 129),
    "display_name": ("x" * 65, "a\0b"),
    "bio": ("x" * 301, "\0"),
    "caption": ("x" * 2201, "a\0"),
    "text": ("", "x" * 1001, "a\0b"),
    "refresh_token": ("", "x" * 513),
    "page_token": ("x" * 513,),
    "page_size": (-1, 101, 1 << 30),
    "user_id": (0, -1, -(1 << 63)),
    "media_id": (0, -1, -(1 << 63)),
    "comment_id": (0, -1),
    "user_ids": ([0], [-5], [7] * 101),
    "media_ids": ([0], [-5], [7] * 101),
    "rendition": (77,),
}


def _picture(kind: str, width: int, height: int, shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 90, 255 - shade)).save(out, kind)
    return out.getvalue()


def _contents() -> dict[bytes, Content]:
    kinds = {
        "PNG": media_pb2.MEDIA_KIND_PNG,
        "JPEG": media_pb2.MEDIA_KIND_JPEG,
        "WEBP": media_pb2.MEDIA_KIND_WEBP,
    }
    made = {
        _picture(kind, width, 4, 20 * width): Content(int(number), width, 4)
        for kind, number in kinds.items()
        for width in (3, 5, 8)
    }
    made[b"just words"] = Content(refused="MEDIA_TYPE_UNSUPPORTED")
    made[_picture("PNG", 64, 64, 1)[:60]] = Content(refused="MEDIA_BROKEN")
    return made


_MADE = _contents()
# By the SHA-256 of the bytes, as the model asks.
CONTENTS = {hashlib.sha256(data).digest(): content for data, content in _MADE.items()}
UPLOADS = (*_MADE, b"")
