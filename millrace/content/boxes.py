"""The outermost boxes of an MP4 file, which tell whether all of it is there.

Source: ISO/IEC 14496-12. The demuxer itself takes a film that was cut short for a shorter one.
"""

from typing import BinaryIO

from millrace.content.limits import broken

_SMALL_HEADER_BYTES = 8
_LARGE_HEADER_BYTES = 16


def check_whole(file: BinaryIO, size_bytes: int) -> None:
    """Raises InvalidRequest (MEDIA_BROKEN) unless the boxes fill the file exactly."""
    at = 0
    names: list[bytes] = []
    while at < size_bytes:
        file.seek(at)
        header = file.read(_LARGE_HEADER_BYTES)
        size, name, least = int.from_bytes(header[:4], "big"), header[4:8], _SMALL_HEADER_BYTES
        if size == 1:
            size, least = int.from_bytes(header[8:16], "big"), _LARGE_HEADER_BYTES
        elif size == 0:
            # Up to the end of the file, wherever that may be: no way to see that some is missing.
            raise broken("the film's last box says no length")
        if len(header) < least or size < least or at + size > size_bytes:
            raise broken("the film is cut short")
        names.append(name)
        at += size
    if names[:1] != [b"ftyp"] or b"moov" not in names:
        raise broken("the film has no table of its frames")
    if b"mdat" not in names:
        raise broken("the film holds no frames")
