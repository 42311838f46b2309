"""Ports on loopback: the usual ones when they are free, else others, the same at every start.

A port counts as free when nothing listens on it and no other stack has chosen it: a server
listens only seconds after the choice. The choice is held by an abstract Unix socket of that
name, which the kernel keeps for a network namespace, as it does ports, and frees with the
process. Others come from below the range that the kernel hands to outgoing connections.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path

from deploy.local.files import write_atomically

LOOPBACK = "127.0.0.1"
_LOWEST = 20_000
_HIGHEST = 31_999
_TRIES_MAX = 1_000


class NoFreePort(Exception):
    """Nothing free in the range: something on this machine listens on thousands of ports."""


class Ports:
    """The ports of one data directory, remembered in `file`."""

    def __init__(self, file: Path, *, usual: bool = True) -> None:
        """With `usual` false the well-known ports are left to others (tests beside a stack)."""
        self._file = file
        self._usual = usual
        self._taken = _remembered(file)
        self._held: list[socket.socket] = []

    def take(self, name: str, usual: int) -> int:
        """The port for `name`: the one it had, else `usual`, else another; free at this moment."""
        wanted = [self._taken.get(name), usual if self._usual else None]
        for port in [*filter(None, wanted), *self._others()]:
            if is_free(port) and self._hold(port):
                self._taken[name] = port
                write_atomically(self._file, json.dumps(self._taken, indent=1))
                return port
        raise NoFreePort(f"no free port for {name} in {_LOWEST}-{_HIGHEST}")

    def remembered(self, name: str) -> int | None:
        return self._taken.get(name)

    def release(self) -> None:
        """Others may have them now; remembered they stay."""
        while self._held:
            self._held.pop().close()

    def _hold(self, port: int) -> bool:
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0millrace-port-{port}")
        except OSError:
            holder.close()
            return False
        self._held.append(holder)
        return True

    def _others(self) -> list[int]:
        remembered = set(self._taken.values())
        # Not the seeded generator: tests seed it, and would all try the same ports.
        tries = random.SystemRandom().sample(range(_LOWEST, _HIGHEST + 1), _TRIES_MAX)
        return [port for port in tries if port not in remembered]


def _remembered(file: Path) -> dict[str, int]:
    """Nothing where the file is not whole (the machine lost its power): new ports do as well."""
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def is_free(port: int) -> bool:
    with socket.socket() as asking:
        # As servers do; without it a port in TIME_WAIT would count as taken.
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asking.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


async def connect(port: int) -> None:
    """Raises OSError while nothing listens; clients that complain loudly ask this first."""
    _, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.close()
