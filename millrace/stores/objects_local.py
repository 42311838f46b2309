"""Writing objects to a local directory so that a power cut leaves whole ones only.

The driver renames as well, but does not wait for the disk, and its copy is a second name for
the same file, with the old one's time. Unfinished files lie in `staging/` under random names;
the sweeper ends them with the other orphans.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from millrace.errors import Bug

STAGING = "staging/"


class LocalFiles:
    """Raises OSError as the file system does."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).absolute()

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> None:
        if isinstance(data, bytes):
            await asyncio.to_thread(self._write, key, lambda file: file.write(data))
            return
        staged, file = await asyncio.to_thread(self._stage)
        try:
            async for chunk in data:
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(self._finish, staged, file, key)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(_drop, staged, file))
            raise

    async def copy(self, source: str, target: str) -> None:
        def fill(file: BinaryIO) -> None:
            with self._path(source).open("rb") as original:
                shutil.copyfileobj(original, file)

        await asyncio.to_thread(self._write, target, fill)

    def _write(self, key: str, fill: Callable[[BinaryIO], object]) -> None:
        staged, file = self._stage()
        try:
            fill(file)
            self._finish(staged, file, key)
        except BaseException:
            _drop(staged, file)
            raise

    def _stage(self) -> tuple[Path, BinaryIO]:
        staged = self.folder / STAGING / secrets.token_hex(16)
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged, staged.open("xb")

    def _finish(self, staged: Path, file: BinaryIO, key: str) -> None:
        path = self._path(key)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(self.folder)
        staged.replace(path)
        _sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise Bug(f"{key} is no key")
        return self.folder.joinpath(*parts)


def _drop(staged: Path, file: BinaryIO) -> None:
    file.close()
    staged.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
