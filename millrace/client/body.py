"""The bytes of an upload, which a retry must be able to send again.

Bytes and files are read anew for each attempt. What comes from an iterator is spooled first, in
memory up to `SPOOL_MEMORY_BYTES`, then in a temporary file: an iterator cannot be asked again.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from millrace.errors import InvalidRequest

CHUNK_BYTES = 256 * 1024
SPOOL_MEMORY_BYTES = 1024 * 1024
# Above the largest upload that any server takes.
SPOOL_BYTES_MAX = 256 * 1024 * 1024

Source = bytes | Path | AsyncIterable[bytes]


class Body:
    """`size_bytes` are announced; `chunks` begins anew each time, one reader at a time."""

    def __init__(self, data: bytes | IO[bytes], size_bytes: int) -> None:
        self._data = data
        self.size_bytes = size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        if isinstance(self._data, bytes):
            for start in range(0, len(self._data), CHUNK_BYTES):
                yield self._data[start : start + CHUNK_BYTES]
            return
        await asyncio.to_thread(self._data.seek, 0)
        while chunk := await asyncio.to_thread(self._data.read, CHUNK_BYTES):
            yield chunk


@asynccontextmanager
async def body_of(source: Source) -> AsyncIterator[Body]:
    """Raises InvalidRequest for more than `SPOOL_BYTES_MAX` of an iterator, OSError for a file."""
    if isinstance(source, bytes):
        yield Body(source, len(source))
    elif isinstance(source, Path):
        file = await asyncio.to_thread(source.open, "rb")
        try:
            size_bytes = await asyncio.to_thread(lambda: file.seek(0, 2))
            yield Body(file, size_bytes)
        finally:
            await asyncio.to_thread(file.close)
    else:
        with tempfile.SpooledTemporaryFile(SPOOL_MEMORY_BYTES) as spool:
            size_bytes = 0
            async for chunk in source:
                size_bytes += len(chunk)
                if size_bytes > SPOOL_BYTES_MAX:
                    raise InvalidRequest(f"more than {SPOOL_BYTES_MAX} bytes")
                await asyncio.to_thread(spool.write, chunk)
            yield Body(spool, size_bytes)
