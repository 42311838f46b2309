"""File formats: told by the first bytes, proved by decoding."""

from enum import Enum

# Enough of a file to tell its kind.
HEAD_BYTES = 16


class Kind(Enum):
    """Values are media types. GIF is known only to say why it is refused."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    MP4 = "video/mp4"


_STILLS_IN_MP4_BOXES = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")
)


def kind_of(head: bytes) -> Kind | None:
    """What a file that begins so may be; None where it is nothing that we know.

    A client's name or media type for the file is not asked: the decoder that this picks has to
    agree.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Kind.WEBP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Kind.GIF
    if head[4:8] == b"ftyp" and head[8:12] not in _STILLS_IN_MP4_BOXES:
        return Kind.MP4
    return None
