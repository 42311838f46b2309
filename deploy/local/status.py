"""stack.json: what runs in a data directory, written at every change, read from anywhere.

Its top-level keys are the names of settings (`kafka_bootstrap`, `cassandra_hosts`,
`cassandra_port`, `cassandra_dc`, `postgres_dsn`, `memcached_addresses`, `objects_url`,
`keys_dir`), so the file can stand in for the environment. Beside them: `launcher` and
`children`, each a process by pid and time of creation, because a pid alone may be reused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local.files import write_atomically

FILE = "stack.json"
_POLL_S = 0.1


class NotRunning(Exception):
    """No launcher lives for the data directory that was named."""


@dataclass(frozen=True)
class Process:
    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Process | None:
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def alive(self) -> psutil.Process | None:
        """The process, unless it ended (a zombie counts as ended) and its pid is another's."""
        try:
            process = psutil.Process(self.pid)
            same = process.create_time() == self.created
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class ChildStatus:
    state: str
    restarts: int
    log: str
    process: Process | None


@dataclass(frozen=True)
class StackStatus:
    """`settings` are the addresses; `ready` is true while every child is ready."""

    data_dir: str
    ready: bool
    launcher: Process | None
    children: Mapping[str, ChildStatus]
    settings: Mapping[str, Any]

    def write(self, data_dir: Path) -> None:
        document = {**self.settings, **asdict(self)}
        del document["settings"]
        # The DSN holds a password.
        write_atomically(data_dir / FILE, json.dumps(document, indent=1), mode=0o600)

    def pid(self, name: str) -> int:
        """Raises KeyError when `name` does not run."""
        process = self.children[name].process
        if process is None or process.alive() is None:
            raise KeyError(f"{name} does not run")
        return process.pid

    def running(self) -> bool:
        """Whether the launcher that wrote this still lives."""
        return self.launcher is not None and self.launcher.alive() is not None


def read(file: Path) -> StackStatus | None:
    """What `file`, or the stack.json in that folder, says.

    None where there is none, or what is there is not one (a machine that lost its power may
    leave it empty).
    """
    file = file / FILE if file.is_dir() else file
    try:
        return _read(json.loads(file.read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(document: dict[str, Any]) -> StackStatus:
    children = {
        name: ChildStatus(**{**child, "process": _process(child["process"])})
        for name, child in document.pop("children").items()
    }
    return StackStatus(
        data_dir=document.pop("data_dir"),
        ready=document.pop("ready"),
        launcher=_process(document.pop("launcher")),
        children=children,
        settings=document,
    )


def ready(file: Path, name: str | None = None, *, not_pid: int | None = None) -> StackStatus | None:
    """The status if all, or the one child `name`, are ready now; else None.

    After a kill give the old pid as `not_pid`: it is the new process that must be ready.
    """
    status = read(file)
    if status is None or not status.running():
        return None
    if name is None:
        return status if status.ready else None
    child = status.children.get(name)
    if child is None or child.state != "ready" or child.process is None:
        return None
    return status if child.process.pid != not_pid else None


async def wait_ready(
    file: Path, name: str | None = None, *, not_pid: int | None = None, timeout_s: float = 90.0
) -> StackStatus:
    """Wait, from another process, for `ready`. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if status := ready(file, name, not_pid=not_pid):
            return status
        await asyncio.sleep(_POLL_S)
    raise TimeoutError(f"{name or 'the stack'} was not ready in {timeout_s:.0f} s: {read(file)}")


def _process(document: dict[str, Any] | None) -> Process | None:
    return Process(**document) if document else None
