"""What a child process is, and how one is started so that it never outlives its launcher.

A child runs in a session of its own, so that Ctrl-C reaches the launcher alone, which stops
the children in order. When the launcher dies without a word, the kernel sends each child its
`death_signal` (PR_SET_PDEATHSIG). setpriv sets it after it has changed the user, because a
change of user clears it, and then becomes the child, so the pid is the child's own. The
signal is tied to the thread that forks: start children from a thread that lives as long as
the launcher does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.local import binaries

OnDeath = Literal["restart", "stop the stack"]


async def _nothing() -> None:
    return


@dataclass(frozen=True)
class Child:
    """One process to keep alive.

    `ready` makes a real request and returns when it was answered; whatever it raises means
    "not yet". `prepare` runs before every start and may be repeated (folders, configuration).
    A child starts when all of `depends_on` are ready, and stops before they do. `nice`: its
    niceness; below 0 where the system allows it.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[None]]
    prepare: Callable[[], Awaitable[None]] = _nothing
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: int | None = None  # uid; None: the launcher's
    nice: int = 0
    depends_on: tuple[str, ...] = ()
    on_death: OnDeath | None = None  # None: as the stack's settings say
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    ready_timeout_s: float = 150.0
    stop_timeout_s: float = 20.0


async def start(child: Child, log: Path) -> asyncio.subprocess.Process:
    """The running child, its output appended to `log`."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *bound_argv(child.argv, user=child.user, death_signal=child.death_signal),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.env},
            cwd=child.cwd,
            start_new_session=True,
        )
    if child.nice:
        _give_priority(process.pid, child.nice)
    return process


def _give_priority(pid: int, nice: int) -> None:
    """Before it has threads, which inherit it. Linux divides the cores among sessions first, and
    each child has its own.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


class CommandFailed(Exception):
    """A command that prepares a child ended with another code than 0; its output is in the log."""


async def run(argv: tuple[str, ...], log: Path, *, user: int | None = None) -> None:
    """Run a command that prepares a child to its end; it dies with the launcher, too."""
    once = Child(name=argv[0], argv=argv, ready=_nothing, user=user)
    process = await start(once, log)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
    if code != 0:
        raise CommandFailed(f"{Path(argv[0]).name} ended with code {code}")


def bound_argv(
    argv: tuple[str, ...],
    *,
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """`argv` behind setpriv: bound to its parent, and run as `user` where one is given."""
    setpriv = binaries.setpriv()
    if setpriv is None:
        raise CommandFailed("setpriv (util-linux) is not on PATH")
    bound = [str(setpriv), "--pdeathsig", death_signal.name.removeprefix("SIG")]
    if user is not None and user != os.geteuid():
        group = pwd.getpwuid(user).pw_gid
        bound += ["--reuid", str(user), "--regid", str(group), "--clear-groups"]
    return [*bound, "--", *argv]
