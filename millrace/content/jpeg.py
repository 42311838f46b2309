"""JPEG files taken apart by their segments: only what the decoder needs is kept.

Source: ITU-T T.81 (JPEG), T.871 (JFIF), CIPA DC-008 (EXIF), ICC.1 annex B.4.
"""

import re
from dataclasses import dataclass, field

from millrace.content.exif import orientation_of
from millrace.content.limits import broken
from millrace.content.stripped import Stripped

_SOI, _EOI, _SOS, _DRI, _DQT, _DHT, _DAC = 0xD8, 0xD9, 0xDA, 0xDD, 0xDB, 0xC4, 0xCC
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_NOT_FRAMES = frozenset((_DHT, 0xC8, _DAC))
_KEPT = frozenset((_DQT, _DHT, _DAC, _DRI))
# In entropy-coded data 0xFF stands before 0x00 (stuffing) or a restart marker; else a segment
# begins. Fill bytes (0xFF) may stand before any marker.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_JFIF_BYTES = 14
_ADOBE_BYTES = 12
_ICC_HEADER = b"ICC_PROFILE\x00"


@dataclass(slots=True)
class _Parts:
    out: bytearray
    width: int = 0
    height: int = 0
    scans: int = 0
    orientation: int = 1
    icc: dict[int, bytes] = field(default_factory=dict)

    def keep(self, marker: int, payload: bytes) -> None:
        self.out += b"\xff" + bytes((marker,)) + (len(payload) + 2).to_bytes(2, "big") + payload


def strip(data: bytes) -> Stripped:
    """Raises InvalidRequest (MEDIA_BROKEN) unless there is all of a picture, up to its end.

    What follows the end goes too: the further pictures of a multi-picture file, for one.
    """
    parts = _Parts(bytearray(data[:2]))
    at = 2
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        payload, at = _payload(data, at)
        _take(parts, marker, payload)
        if marker == _SOS:
            at = _scan(parts, data, at)
    if not (parts.scans and parts.width and parts.height):
        raise broken("the JPEG holds no picture")
    parts.out += b"\xff\xd9"
    icc = b"".join(parts.icc[number] for number in sorted(parts.icc))
    return Stripped(
        bytes(parts.out), parts.width, parts.height, orientation=parts.orientation, icc=icc
    )


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at `at`, and where its segment begins."""
    start = at
    while data[at : at + 1] == b"\xff":
        at += 1
    if at == start or at >= len(data):
        raise broken("the JPEG is cut short")
    return data[at], at + 1


def _payload(data: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(data[at : at + 2], "big")
    end = at + size
    if size < 2 or end > len(data):
        raise broken("the JPEG is cut short")
    return data[at + 2 : end], end


def _take(parts: _Parts, marker: int, payload: bytes) -> None:
    if marker in _KEPT or marker == _SOS:
        parts.keep(marker, payload)
    elif 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES:
        if parts.width or len(payload) < 6:
            raise broken("the JPEG has a wrong frame header")
        parts.height = int.from_bytes(payload[1:3], "big")
        parts.width = int.from_bytes(payload[3:5], "big")
        parts.keep(marker, payload)
    elif marker == _APP0 and payload.startswith(b"JFIF\x00") and len(payload) >= _JFIF_BYTES:
        # Version and density stay (they decide the shape of pixels); the thumbnail goes.
        parts.keep(_APP0, payload[:12] + b"\x00\x00")
    elif marker == _APP14 and payload.startswith(b"Adobe") and len(payload) >= _ADOBE_BYTES:
        parts.keep(_APP14, payload[:_ADOBE_BYTES])
    elif marker == _APP1 and payload.startswith(b"Exif\x00\x00"):
        parts.orientation = orientation_of(payload)
    elif marker == _APP2 and payload.startswith(_ICC_HEADER) and len(payload) > 14:
        parts.icc[payload[12]] = payload[14:]
    elif marker in (_SOI, 0x00, 0x01) or 0xD0 <= marker <= 0xD7:
        raise broken("the JPEG has a segment where none can be")


def _scan(parts: _Parts, data: bytes, at: int) -> int:
    """Copy one scan's entropy-coded data; returns where the next marker stands."""
    found = _NEXT_MARKER.search(data, at)
    if found is None:
        raise broken("the JPEG is cut short")
    parts.out += data[at : found.start()]
    parts.scans += 1
    return found.start()
