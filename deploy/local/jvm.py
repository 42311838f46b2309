"""What both Java servers are started with: a small heap on few cores, and no traces in /tmp."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from deploy.local import binaries
from deploy.local.child import CommandFailed
from deploy.local.install import jars


@cache
def java() -> str:
    program = binaries.java()
    if program is None:
        raise CommandFailed("Java 17 is missing: make install")
    return str(program)


def class_path(server: str) -> str:
    """The JVM expands the star itself."""
    folder = jars.folder(server)
    if not folder.exists():
        raise CommandFailed(f"the jars of {server} are missing: make install")
    return f"{folder}/*"


def options(folder: Path, *, heap_first_mb: int, heap_max_mb: int) -> tuple[str, ...]:
    return (
        f"-Xms{heap_first_mb}m",
        f"-Xmx{heap_max_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        # Native libraries are unpacked here; a kill would leave them in /tmp for ever.
        f"-Djava.io.tmpdir={folder / 'tmp'}",
    )


def make_folders(folder: Path, *names: str) -> None:
    """The folders of a server, with an empty one for temporary files."""
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    for name in ("tmp", *names):
        (folder / name).mkdir(parents=True, exist_ok=True)
