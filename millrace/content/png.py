"""PNG files taken apart by their chunks: only what the pixels need is kept.

Source: W3C Portable Network Graphics (third edition).
"""

import zlib

from millrace.content.exif import orientation_of
from millrace.content.limits import broken
from millrace.content.stripped import Stripped

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT"))
# What the values mean, and the only length that each may have, so that nothing else hides there.
_COLOUR_BYTES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}
_ICC_BYTES_MAX = 4 * 1024 * 1024


def strip(data: bytes) -> Stripped:
    """Raises InvalidRequest (MEDIA_BROKEN) unless all chunks up to IEND are whole."""
    out = bytearray(_SIGNATURE)
    width = height = 0
    animated = False
    orientation, icc = 1, b""
    colour: list[tuple[bytes, bytes]] = []
    at = len(_SIGNATURE)
    while True:
        name, body, end = _chunk(data, at)
        if at == len(_SIGNATURE) and (name != b"IHDR" or len(body) != 13):
            raise broken("the PNG has no header")
        if name == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        if name == b"IEND":
            break
        if name in _KEPT:
            out += data[at:end]
        elif _COLOUR_BYTES.get(name) == len(body):
            out += data[at:end]
            colour.append((name, body))
        elif name == b"acTL":
            # One frame is a still picture that is called an animation.
            animated = int.from_bytes(body[:4], "big") != 1
        elif name == b"eXIf":
            orientation = orientation_of(body)
        elif name == b"iCCP":
            icc = _profile(body)
        elif name[0] & 0x20 == 0:
            raise broken("the PNG needs a chunk that nobody knows")
        at = end
    out += _sealed(b"IEND", b"")
    return Stripped(
        bytes(out), width, height, animated, orientation, icc, lossless=True, colour=tuple(colour)
    )


def _chunk(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Name and body of the chunk at `at`, and where the next one begins."""
    size = int.from_bytes(data[at : at + 4], "big")
    end = at + 12 + size
    if end > len(data):
        raise broken("the PNG is cut short")
    name, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
    if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(data[end - 4 : end], "big"):
        raise broken("the PNG has a damaged chunk")
    return name, body, end


def _sealed(name: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(name))
    return len(body).to_bytes(4, "big") + name + body + crc.to_bytes(4, "big")


def _profile(body: bytes) -> bytes:
    """The ICC profile in an iCCP chunk; empty where it cannot be unpacked within bounds."""
    _, _, packed = body.partition(b"\x00")
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(packed[1:], _ICC_BYTES_MAX)
    except zlib.error:
        return b""
    return profile if unpack.eof else b""
