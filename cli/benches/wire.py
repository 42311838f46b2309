"""Unary gRPC calls straight on HTTP/2 frames: a client that costs a fifth of grpc's own.

A bench that offers three times what a machine can do must not be what uses that machine up.
Requests are blocks of bytes made beforehand; of an answer it reads the status and no message.

Not: TLS, compression, streams of messages, padding, header fields that the server remembers
(it is told to remember none).
"""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

# Called once a call with its code, the number of a grpc.StatusCode, or UNSENT or LOST; and with
# the header block of its end, in which `field_of` finds more.
Ended = Callable[[int, bytes], None]
UNSENT, LOST = -1, -2

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 2**31 - 1
_WINDOW_AT_START = 65_535
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_TABLE_SIZE, _STREAMS_MAX, _INITIAL_WINDOW = 1, 3, 4
_STREAM_ID = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_STATUS = b"grpc-status"


def header_block(path: str, authority: str, metadata: Sequence[tuple[str, str]]) -> bytes:
    """The header fields of a call, in literals that the server does not remember."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    ]
    return b"".join(literal(name.encode(), value.encode()) for name, value in fields)


def literal(name: bytes, value: bytes) -> bytes:
    """One header field (RFC 7541 §6.2.2)."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


class Connection(asyncio.Protocol):
    """`calls_max`: as many calls at once as the server allows; more are UNSENT. `ready` is set
    once it has said how many.
    """

    def __init__(self) -> None:
        self.calls_max = 100
        self.ready = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._ended: dict[int, Ended] = {}
        self._next_id = 1
        self._window = _WINDOW_AT_START
        self._received = bytearray()
        self._to_send: list[bytes] = []

    def call(self, block: bytes, message: bytes, ended: Ended) -> None:
        """Goes out with the next `flush`."""
        size = len(message) + 5
        if self._transport is None or len(self._ended) >= self.calls_max or size > self._window:
            ended(UNSENT, b"")
            return
        stream, self._next_id = self._next_id, self._next_id + 2
        self._window -= size
        self._ended[stream] = ended
        self._to_send += (
            _frame(_HEADERS, _END_HEADERS, stream, block),
            _frame(_DATA, _END_STREAM, stream, b"\0" + _STREAM_ID.pack(len(message)) + message),
        )

    def flush(self) -> None:
        if self._to_send and self._transport is not None:
            self._transport.write(b"".join(self._to_send))
            self._to_send.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        settings = _SETTING.pack(_TABLE_SIZE, 0) + _SETTING.pack(_INITIAL_WINDOW, _WINDOW)
        more = _STREAM_ID.pack(_WINDOW - _WINDOW_AT_START)
        transport.write(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, more)
        )

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        lost, self._ended = self._ended, {}
        for ended in lost.values():
            ended(LOST, b"")

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at, end = 0, len(received)
        while end - at >= 9:
            size = received[at] << 16 | received[at + 1] << 8 | received[at + 2]
            if end - at < 9 + size:
                break
            kind, flags = received[at + 3], received[at + 4]
            if kind != _DATA:
                stream = int.from_bytes(received[at + 5 : at + 9], "big")
                self._frame(kind, flags, stream, bytes(received[at + 9 : at + 9 + size]))
            at += 9 + size
        del received[:at]
        self.flush()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            if flags & _END_STREAM and (ended := self._ended.pop(stream, None)):
                ended(int(field_of(_STATUS, payload) or LOST), payload)
        elif kind == _RST:
            if ended := self._ended.pop(stream, None):
                ended(LOST, b"")
        elif kind == _WINDOW_UPDATE:
            if stream == 0:
                self._window += _STREAM_ID.unpack(payload)[0]
        elif kind == _PING and not flags & _ACK:
            self._to_send.append(_frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in _SETTING.iter_unpack(payload):
                if name == _STREAMS_MAX:
                    self.calls_max = value
            self.ready.set()
            self._to_send.append(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _GOAWAY:
            self.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _length(number: int) -> bytes:
    """An integer with a prefix of 7 bits (RFC 7541 §5.1)."""
    if number < 127:
        return bytes((number,))
    found, number = [127], number - 127
    while number >= 128:
        found.append(number % 128 + 128)
        number //= 128
    return bytes((*found, number))


def field_of(name: bytes, block: bytes) -> bytes:
    """The value of a header field that came as plain literals; empty when it is not there."""
    at = block.find(name)
    if at < 0:
        return b""
    at += len(name)
    size, at = block[at], at + 1
    if size == 127:
        shift = 0
        while True:
            more, at = block[at], at + 1
            size += (more & 127) << shift
            shift += 7
            if more < 128:
                break
    return block[at : at + size]
