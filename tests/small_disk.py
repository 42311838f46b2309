"""A small file system of its own under a folder, so that a test can fill it and give it back.

    with SmallDisk(data_dir / "kafka", image, size_mb=200) as disk:
        disk.fill()      # no byte is left
        disk.free()

A loop device, because a full one refuses as a real disk does: when a block is needed.
"""

import errno
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_MB = 1024 * 1024
_CHUNKS = (16 * _MB, _MB, 64 * 1024, 4096)


class SmallDisk:
    """Mounted at `folder`, which is made. Skips the test where nothing may be mounted."""

    def __init__(self, folder: Path, image: Path, *, size_mb: int, user: int = 0) -> None:
        self.folder = folder
        self._image = image
        self._size_bytes = size_mb * _MB
        self._user = user

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            pytest.skip("a full disk needs root, who may mount a small one")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        for argv in (
            ("mkfs.ext4", "-q", "-m", "0", str(self._image)),
            ("mount", "-o", "loop", str(self._image), str(self.folder)),
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"a small disk is not to be had here: {done.stderr.strip()}")
        self.folder.chmod(0o700)
        os.chown(self.folder, self._user, -1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Lazily: who still has a file open there is about to end.
        subprocess.run(("umount", "-l", str(self.folder)), check=True)

    def fill(self) -> None:
        """Until not one block is left."""
        with self._ballast.open("ab") as ballast:
            at = 0
            for size in _CHUNKS:
                while _allocated(ballast.fileno(), at, size):
                    at += size

    def free(self) -> None:
        self._ballast.unlink()


def _allocated(file: int, at: int, size: int) -> bool:
    try:
        os.posix_fallocate(file, at, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        raise
    return True
