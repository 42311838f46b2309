"""One step of the installation: a line when it is done, its output only when it fails."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The cause stands first in what npm prints, last in what apt and Maven print.
_FIRST_LINES = 8
_LAST_LINES = 20


class CannotInstall(Exception):
    """A message for the person at the terminal: what is missing, and what to type."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print `text` with the seconds it took; several steps may run at once."""
    started = time.monotonic()
    yield
    print(f"  {text:<58} {time.monotonic() - started:6.1f} s", flush=True)


def run(argv: list[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Run to the end without input; raise CannotInstall with the last lines if it fails."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = done.stdout.splitlines()
        if len(lines) > _FIRST_LINES + _LAST_LINES:
            lines = [*lines[:_FIRST_LINES], "…", *lines[-_LAST_LINES:]]
        text = "\n".join(lines)
        raise CannotInstall(f"this failed with exit code {done.returncode}: {argv}\n{text}")


def cache_folder() -> Path:
    """Where downloads live, outside git; made if need be.

    A home that is empty, relative, not there (that of `nobody`) or not ours is passed over.
    """
    home = os.path.expanduser("~") if os.environ.get("HOME") != "" else ""
    for place in (os.environ.get("XDG_CACHE_HOME", ""), home and os.path.join(home, ".cache")):
        if os.path.isabs(place) and _is_ours(folder := Path(place) / "millrace"):
            return folder
    return ROOT / "build" / "cache"


def _is_ours(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
