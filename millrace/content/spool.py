"""What a client sends, on disk until it is looked at: memory holds one buffer an upload.

The files have no name, so nothing is left of them when a process dies.
"""

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self, cast

from millrace.content.kind import HEAD_BYTES, Kind, kind_of
from millrace.content.limits import MEDIA_TYPE_UNSUPPORTED, Limits, refused
from millrace.errors import Exhausted, StoreUnavailable

_BUFFER_BYTES = 256 * 1024


class SpoolRoom:
    """The bytes that all spools of a process may hold together, and the folder they lie in."""

    def __init__(self, bytes_max: int, folder: str = "") -> None:
        self.folder = folder or None
        self._bytes_max = bytes_max
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        return self._taken_bytes

    def take(self, size_bytes: int) -> None:
        """Raises Exhausted when there is no room."""
        if self._taken_bytes + size_bytes > self._bytes_max:
            raise Exhausted("too many uploads at once: try again", reason="UPLOADS_FULL")
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self._taken_bytes -= size_bytes


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """A disk that is full, or a folder that is not there, is StoreUnavailable."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the spool takes no bytes: {error.strerror}") from error


class Spool:
    """One upload. Counts and hashes what was sent; one writer.

    async with Spool(room, limits) as spool:
        await spool.write(chunk)
    """

    def __init__(self, room: SpoolRoom, limits: Limits) -> None:
        self._room = room
        self._limits = limits
        self._hash = hashlib.sha256()
        self._head = b""
        self._kind: Kind | None = None
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def sha256(self) -> bytes:
        """Of all bytes so far."""
        return self._hash.digest()

    async def write(self, chunk: bytes) -> None:
        """Raises InvalidRequest as soon as the bytes cannot become anything (MEDIA_TOO_LARGE,
        MEDIA_TYPE_UNSUPPORTED), Exhausted when the process has no room, StoreUnavailable when
        the disk has none.
        """
        self._check(chunk)
        self._room.take(len(chunk))
        self.size_bytes += len(chunk)
        self._hash.update(chunk)
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER_BYTES:
            await self._flush()

    async def file(self) -> BinaryIO:
        """All bytes so far as a file, at its start. It belongs to the spool."""
        await self._flush()
        if self._file is None:
            raise ValueError("the spool is closed")
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Again is harmless."""
        self._room.give_back(self.size_bytes)
        self.size_bytes = 0
        self._buffer.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _check(self, chunk: bytes) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._kind = kind_of(self._head)
                if self._kind is None:
                    raise refused(
                        MEDIA_TYPE_UNSUPPORTED, "media must be a JPEG, a PNG, a WebP or an MP4"
                    )
        size_bytes = self.size_bytes + len(chunk)
        if self._kind is Kind.MP4:
            self._limits.check_video_bytes(size_bytes)
        else:
            self._limits.check_image_bytes(size_bytes)

    async def _flush(self) -> None:
        with on_disk():
            if self._file is None:
                opened = await asyncio.to_thread(tempfile.TemporaryFile, dir=self._room.folder)
                self._file = cast(BinaryIO, opened)
            data, self._buffer = self._buffer, bytearray()
            await asyncio.to_thread(self._file.write, data)
            if len(data) < _BUFFER_BYTES:
                await asyncio.to_thread(self._file.flush)
