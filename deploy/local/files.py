"""The files of a data directory: written whole or not at all, read from the end, bounded."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL_BYTES = 16 * 1024
LOG_BYTES_MAX = 8 * 1024 * 1024


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Readers see the old text or the new, also when the writer is killed."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
        out.write(text)
    new.replace(path)


def rotate(log: Path) -> None:
    """Keep one older file when `log` has grown beyond its bound."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(log.name + ".1"))


def last_lines(log: Path, count: int, *, since: int = 0) -> list[str]:
    """At most `count` lines from the end of `log`, none from before the offset `since`."""
    try:
        with log.open("rb") as lines:
            size = lines.seek(0, os.SEEK_END)
            lines.seek(max(since, size - _TAIL_BYTES))
            text = lines.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
