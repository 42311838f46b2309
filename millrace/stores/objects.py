"""Bytes by key: a local directory by default; S3, GCS or Azure by `settings.objects_url`.

    file://PATH (relative to the working directory, or absolute)   memory:// (tests)
    s3://…  gs://…  az://…  with credentials from their usual places

An object is there whole or not at all, and is durable when `put` or `copy` returns. Keys of
originals begin with the media id, so that whoever finds bytes knows whom to ask about them.
Cloud buckets should end aborted multipart uploads by a lifecycle rule of their own.

Not: which objects are wanted (the media view), ends of orphans (`streams/sweeper.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from obstore.store import ObjectStore as Driver

from millrace.errors import InvalidRequest, NotFound, StoreUnavailable
from millrace.ids import MediaId
from millrace.settings import Settings
from millrace.stores.objects_local import LocalFiles

ORIGINALS = "originals/"
_FILE, _MEMORY = "file://", "memory://"
_ORIGINAL = re.compile(r"originals/([0-9a-f]{16})-[0-9a-f]{16}")
_PART_BYTES = 8 * 1024 * 1024
_PARTS_PARALLEL = 2
_LISTED_AT_ONCE = 500


def object_key(media_id: int) -> str:
    """A new key for an item's bytes; no two calls give the same."""
    return f"{ORIGINALS}{media_id:016x}-{secrets.token_hex(8)}"


def media_id_of(key: str) -> MediaId | None:
    """The item in an original's key; None for any other key."""
    found = _ORIGINAL.fullmatch(key)
    return MediaId(int(found[1], 16)) if found else None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`modified_ms`: since 1970, by the store's clock, when the object was put or copied."""

    key: str
    size_bytes: int
    modified_ms: int


class ObjectStore:
    """Every method raises StoreUnavailable when the store does not answer in time.

    After that, or when a `put` is cancelled, the object may or may not be there.
    """

    def __init__(self, driver: Driver, local: LocalFiles | None, timeout_s: float) -> None:
        self._driver = driver
        self._local = local
        self._timeout_s = timeout_s

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Raises InvalidRequest for an address that means nothing."""
        url, timeout_s = settings.objects_url, settings.objects_timeout_s
        if url.startswith(_MEMORY):
            return cls(MemoryStore(), None, timeout_s)
        if url.startswith(_FILE):
            files = LocalFiles(url.removeprefix(_FILE))
            return cls(LocalStore(files.folder, mkdir=True), files, timeout_s)
        try:
            return cls(from_url(url), None, timeout_s)
        except (BaseError, ValueError) as error:
            raise InvalidRequest(f"objects_url: {error}") from error

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> None:
        """Write an object, or replace it. Chunks are taken as fast as they can be written."""
        async with self._answered():
            if self._local is not None:
                await self._local.put(key, data)
            elif isinstance(data, bytes):
                await obstore.put_async(self._driver, key, data, chunk_size=_PART_BYTES)
            else:
                await obstore.put_async(
                    self._driver,
                    key,
                    data,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_PARALLEL,
                )

    async def get_chunks(self, key: str, chunk_bytes: int) -> AsyncIterator[bytes]:
        """The object in order, in pieces of `chunk_bytes` (the last may be shorter).

        Raises NotFound before the first piece. The deadline is for each piece.
        """
        async with self._answered():
            found = await obstore.get_async(self._driver, key)
            pieces = found.stream(min_chunk_size=chunk_bytes)
        rest = b""
        while True:
            async with self._answered():
                piece = await anext(pieces, None)
            if piece is None:
                break
            data = memoryview(rest + bytes(piece))
            whole = len(data) - len(data) % chunk_bytes
            for at in range(0, whole, chunk_bytes):
                yield bytes(data[at : at + chunk_bytes])
            rest = bytes(data[whole:])
        if rest:
            yield rest

    async def head(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        async with self._answered():
            return _info(await obstore.head_async(self._driver, key))

    async def delete(self, key: str) -> None:
        """What is not there is deleted already."""
        with contextlib.suppress(NotFound):
            async with self._answered():
                await obstore.delete_async(self._driver, key)

    async def copy(self, source: str, target: str) -> None:
        """Raises NotFound. The copy counts as modified now."""
        async with self._answered():
            if self._local is not None:
                await self._local.copy(source, target)
            else:
                await obstore.copy_async(self._driver, source, target)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose keys begin with `prefix`, a folder ("originals/"); in no order."""
        pages = obstore.list(self._driver, prefix or None, chunk_size=_LISTED_AT_ONCE)
        while True:
            async with self._answered():
                page = await anext(pages, None)
            if page is None:
                return
            for meta in page:
                yield _info(meta)

    @contextlib.asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        with _our_errors():
            async with asyncio.timeout(self._timeout_s):
                yield


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("no such object") from error
    except TimeoutError as error:
        raise StoreUnavailable("the object store does not answer") from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable("the object store refuses") from error


def _info(meta: obstore.ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], int(meta["last_modified"].timestamp() * 1000))
