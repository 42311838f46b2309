"""WebP files taken apart by their chunks: only what the pixels need is kept.

Source: RFC 9649. Pillow's decoder makes its canvas when a file is opened, so the size has to be
read here, before it.
"""

from millrace.content.exif import orientation_of
from millrace.content.limits import broken
from millrace.content.stripped import Stripped

_ALPHA, _ANIMATION = 0x10, 0x02
_HEADER_BYTES = 12


def strip(data: bytes) -> Stripped:
    """Raises InvalidRequest (MEDIA_BROKEN) unless the file is as long as it says."""
    chunks = _chunks(data)
    canvas = chunks.get(b"VP8X")
    lossless = b"VP8L" in chunks
    if canvas is not None and len(canvas) >= 10:
        width = 1 + int.from_bytes(canvas[4:7], "little")
        height = 1 + int.from_bytes(canvas[7:10], "little")
        animated = bool(canvas[0] & _ANIMATION) or b"ANMF" in chunks
    else:
        width, height = _coded_size(chunks)
        animated = False
    if animated:
        return Stripped(data, width, height, animated=True)
    if (width, height) != _coded_size(chunks):
        raise broken("the WebP has two sizes")
    return Stripped(
        _file(chunks, width, height),
        width,
        height,
        orientation=orientation_of(chunks[b"EXIF"]) if b"EXIF" in chunks else 1,
        icc=chunks.get(b"ICCP", b""),
        lossless=lossless,
    )


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each name."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) or end < _HEADER_BYTES:
        raise broken("the WebP is cut short")
    chunks: dict[bytes, bytes] = {}
    at = _HEADER_BYTES
    while at + 8 <= end:
        name = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise broken("the WebP is cut short")
        chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return chunks


def _coded_size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    lossy, lossless = chunks.get(b"VP8 ", b""), chunks.get(b"VP8L", b"")
    if len(lossy) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        width = int.from_bytes(lossy[6:8], "little") & 0x3FFF
        return width, int.from_bytes(lossy[8:10], "little") & 0x3FFF
    if len(lossless) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise broken("the WebP holds no picture")


def _file(chunks: dict[bytes, bytes], width: int, height: int) -> bytes:
    """A new file of the bitstream alone, with its alpha plane where it has one."""
    if b"VP8L" in chunks:
        body = _chunk(b"VP8L", chunks[b"VP8L"])
    elif b"ALPH" in chunks:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = _chunk(b"VP8X", bytes((_ALPHA, 0, 0, 0)) + sides)
        body += _chunk(b"ALPH", chunks[b"ALPH"]) + _chunk(b"VP8 ", chunks[b"VP8 "])
    else:
        body = _chunk(b"VP8 ", chunks[b"VP8 "])
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + b"\x00" * (len(body) % 2)
