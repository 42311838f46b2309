"""HTTP/2 by hand, as no library would send it: connections and calls that are never finished."""

import asyncio
import struct
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_INITIAL_WINDOW = 4
# What HPACK (RFC 7541) says with one byte.
_POST, _HTTP = b"\x83", b"\x86"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def settings(*, window: int | None = None) -> bytes:
    """`window`: bytes that the server may send before we read."""
    asked = b"" if window is None else struct.pack(">HI", _INITIAL_WINDOW, window)
    return frame(SETTINGS, 0, 0, asked)


def headers(path: str, token: str = "") -> bytes:
    told = [(b":path", path.encode()), (b":authority", b"millrace")]
    told += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    if token:
        told.append((b"authorization", b"Bearer " + token.encode()))
    return _POST + _HTTP + b"".join(_literal(name, value) for name, value in told)


def message(payload: bytes) -> bytes:
    """As gRPC frames it."""
    return struct.pack(">BI", 0, len(payload)) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),))
    rest, more = len(text) - 127, [127]
    while rest >= 128:
        more.append(rest % 128 + 128)
        rest //= 128
    return bytes((*more, rest))


@dataclass(frozen=True)
class Raw:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def closed(self) -> None:
        """Returns when the server has ended the connection."""
        try:
            while await self.reader.read(1 << 16):
                pass
        except ConnectionError:
            return

    async def streams_ended(self, count: int) -> bytes:
        """Waits until the server has ended so many streams. All that it said."""
        said, ended = [], 0
        while ended < count:
            length, kind, flags, _ = struct.unpack(
                ">IBBI", b"\0" + await self.reader.readexactly(9)
            )
            said.append(await self.reader.readexactly(length))
            ended += kind == RST_STREAM or bool(kind in (DATA, HEADERS) and flags & END_STREAM)
            if kind == PING and not flags & ACK:
                self.send(frame(PING, ACK, 0, said[-1]))
        return b"".join(said)

    def close(self) -> None:
        self.writer.transport.abort()


async def connected(address: str, *first: bytes, source: str = "127.0.0.1") -> Raw:
    """`source`: the address from which; any of 127.0.0.0/8 is this machine's."""
    host, _, port = address.rpartition(":")
    raw = Raw(*await asyncio.open_connection(host, int(port), local_addr=(source, 0)))
    raw.send(*first)
    return raw
