"""HTTP/2 requests that no gRPC library would send, through node, and gzip bombs for them."""

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.install.venv import VENV

_SCRIPT = Path(__file__).parent / "contract" / "http2" / "tries.js"
_PATIENCE_S = 120
_MIB = 1 << 20


@dataclass(frozen=True)
class Sent:
    """One request. `cut`: reset behind the body instead of ended. `silent`: grpc.aio never answers
    a call that ends without a message (docs/upstream.md), so nobody waits for long.
    """

    path: str
    body: bytes = b""
    headers: dict[str, Any] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False

    def as_json(self) -> dict[str, Any]:
        usual = {
            ":method": "POST",
            ":path": self.path,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        merged = {name: value for name, value in {**usual, **self.headers}.items() if value}
        return {
            "headers": merged,
            "body": base64.b64encode(self.body).decode(),
            "cut": self.cut,
            "patience_ms": 200 if self.silent else 15_000,
        }


@dataclass(frozen=True)
class Ended:
    """`code` is the grpc-status, None where there was none."""

    status: int | None
    code: int | None
    message: str
    error: str | None


async def send_all(address: str, tries: Sequence[Sent]) -> list[Ended]:
    """One after the other, each on a connection of its own."""
    node = await asyncio.create_subprocess_exec(
        *(VENV / "bin" / "node", _SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    asked = json.dumps({"address": address, "tries": [one.as_json() for one in tries]})
    try:
        async with asyncio.timeout(_PATIENCE_S):
            printed, complaint = await node.communicate(asked.encode())
    finally:
        if node.returncode is None:
            node.kill()
    assert node.returncode == 0, complaint.decode()
    return [_ended(one) for one in json.loads(printed)]


def _ended(one: dict[str, Any]) -> Ended:
    told = {**one["headers"], **one["trailers"]}
    code = told.get("grpc-status")
    return Ended(
        one["status"],
        int(code) if code is not None else None,
        str(told.get("grpc-message", "")),
        one["error"],
    )


def framed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A message as gRPC frames it; `length` may lie."""
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


def gzip_bomb(mib: int) -> bytes:
    """About a thousandth of what it inflates to: zeros, so many MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(_MIB)
    head = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush each block is packed as the one before it.
    repeated = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(mib):
        check = zlib.crc32(block, check)
    return head + repeated * (mib - 1) + b"\x03\x00" + struct.pack("<II", check, mib * _MIB % 2**32)
