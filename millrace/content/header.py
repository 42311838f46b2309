"""A codec's header without the messages that it can carry, as the frames lose theirs.

Source: ITU-T H.264 and H.265 annex B (units after start codes), the AV1 specification (OBUs).
"""

import re

from millrace.content.limits import broken

# Which messages go: NAL unit types (SEI), and OBU types (metadata).
MESSAGES = {"h264": (6,), "hevc": (39, 40), "av1": (5,)}
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def without_messages(codec: str, header: bytes) -> bytes:
    """`header` in annex B, or a row of OBUs. Raises InvalidRequest (MEDIA_BROKEN)."""
    if codec == "av1":
        return _obus(header)
    units = (unit for unit in _START_CODE.split(header) if unit)
    kept = (unit for unit in units if _unit_type(codec, unit) not in MESSAGES[codec])
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in kept)


def _unit_type(codec: str, unit: bytes) -> int:
    return unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F


def _obus(header: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(header):
        begin, flags = at, header[at]
        at += 2 if flags & 0x04 else 1
        if not flags & 0x02:
            raise broken("the film's video header has no lengths")
        size, length = _leb128(header, at)
        at += length + size
        if at > len(header):
            raise broken("the film's video header is cut short")
        if flags >> 3 & 0x0F not in MESSAGES["av1"]:
            out += header[begin:at]
    return bytes(out)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Value and length of a variable-length number."""
    value = 0
    for length, byte in enumerate(data[at : at + 8], 1):
        value |= (byte & 0x7F) << 7 * (length - 1)
        if not byte & 0x80:
            return value, length
    raise broken("the film's video header is cut short")
