"""As much of HTTP/2 as a reproducer needs, by hand: frames, and headers without compression."""

import asyncio
import struct
from collections.abc import Mapping

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
_FRAME_BYTES_MAX = 16_000


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def pieces(block: bytes) -> bytes:
    """A block of headers as HEADERS and CONTINUATION."""
    parts = [block[at : at + _FRAME_BYTES_MAX] for at in range(0, len(block), _FRAME_BYTES_MAX)]
    last = len(parts) - 1
    return b"".join(
        frame(9 if at else 1, 4 if at == last else 0, part) for at, part in enumerate(parts)
    )


def headers(path: str, more: Mapping[str, str] | None = None) -> bytes:
    usual = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\0" + _text(name) + _text(value) for name, value in {**usual, **(more or {})}.items()
    )


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    length, left = b"\x7f", len(data) - 127
    while left >= 128:
        length += bytes((left & 127 | 128,))
        left >>= 7
    return length + bytes((left,)) + data


async def answer_of(port: int, sent: bytes, wait_s: float) -> bytes:
    """What comes back until the call has a status, or for so long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    got = b""
    try:
        async with asyncio.timeout(wait_s):
            while b"grpc-status" not in got and (data := await reader.read(65536)):
                got += data
    except TimeoutError:
        pass
    writer.close()
    return got
