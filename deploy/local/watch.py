"""Keep one child alive: start, wait for its real answer, notice its death, start again.

States: waiting (for others) → starting → ready → backing off → starting …; stopped when it
was told to, failed when it died and may not be started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.local.child import Child, OnDeath, start
from deploy.local.files import last_lines, rotate

_READY_POLL_S = 0.1
_READY_ANSWER_TIMEOUT_S = 5.0
_LAST_LINES = 15


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class RestartPolicy:
    """What follows a death that nobody asked for."""

    on_death: OnDeath = "restart"
    restarts_a_minute_max: int = 5
    backoff_first_s: float = 0.2
    backoff_max_s: float = 5.0


class ChildFailed(Exception):
    """A child died, or never answered, and is not started again; the message has its last lines."""


class Watched:
    """A child with its state; all methods belong to the event loop that runs `run`."""

    def __init__(
        self,
        child: Child,
        *,
        log: Path,
        policy: RestartPolicy,
        changed: Callable[[Watched], None],
        report: Callable[[str], None],
    ) -> None:
        self.child = child
        self.log = log
        self.state = State.WAITING
        self.restarts = 0
        self.failure = ""
        self._policy = policy
        self._changed = changed
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._settled = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._deaths: deque[float] = deque()
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process else None

    async def run(self) -> None:
        """Until `stop` is called, or the child fails for good."""
        while not self._stopping.is_set():
            why = await self._one_life()
            if self._stopping.is_set():
                break
            lines = "\n    ".join(last_lines(self.log, _LAST_LINES, since=self._log_start))
            text = f"{self.child.name} {why}; its last lines:\n    {lines or '(none)'}"
            pause_s = self._pause_before_restart()
            if pause_s is None:
                await self.give_up(f"{text}\n  not started again: {self._why_no_restart()}")
                return
            self._report(f"{text}\n  starting it again in {pause_s:.1f} s")
            self.restarts += 1
            await self._enter(State.BACKING_OFF)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
        await self._enter(State.STOPPED)

    async def stop(self) -> None:
        """Ask it to end; kill it when its time is over. Returns when it is gone."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        _send(process, self.child.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.child.stop_timeout_s)
        except TimeoutError:
            self._report(f"{self.child.name} did not stop in {self.child.stop_timeout_s:.0f} s")
            _send(process, signal.SIGKILL)
            await process.wait()

    async def give_up(self, why: str) -> None:
        """Whoever waits for it gets ChildFailed with `why`."""
        self.failure = why
        await self._enter(State.FAILED)

    def kill(self, sig: signal.Signals) -> None:
        """A death that nobody asked for, as far as the watcher knows."""
        if self.state is State.READY:
            self.state = State.STARTING
        if self._process is not None:
            _send(self._process, sig)

    async def wait_ready(self) -> None:
        """Returns when it is ready; raises ChildFailed when it failed or was stopped."""
        ends = (State.READY, State.FAILED, State.STOPPED)
        async with self._settled:
            await self._settled.wait_for(lambda: self.state in ends)
        if self.state is not State.READY:
            raise ChildFailed(self.failure or f"{self.child.name} was stopped")

    async def _one_life(self) -> str:
        """From start to death; says how it ended."""
        await self._enter(State.STARTING)
        rotate(self.log)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            await self.child.prepare()
            if self._stopping.is_set():
                return "was stopped"
            process = self._process = await start(self.child, self.log)
        except Exception as problem:  # noqa: BLE001  whatever it is, it is this child's failure
            return f"could not be started: {problem}"
        if self._stopping.is_set():
            _send(process, signal.SIGKILL)
        self._changed(self)
        ended = asyncio.create_task(process.wait())
        answered = asyncio.create_task(self._until_answer())
        try:
            await asyncio.wait({ended, answered}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not answered.result():
                _send(process, signal.SIGKILL)
                await ended
                return f"gave no answer within {self.child.ready_timeout_s:.0f} s"
            if not ended.done():
                await self._enter(State.READY)
            code = await ended
        finally:
            answered.cancel()
            if process.returncode is None:
                _send(process, signal.SIGKILL)
        return f"ended with code {code}" if code >= 0 else f"was killed by signal {-code}"

    async def _until_answer(self) -> bool:
        deadline = time.monotonic() + self.child.ready_timeout_s
        while time.monotonic() < deadline:
            try:
                await asyncio.wait_for(self.child.ready(), _READY_ANSWER_TIMEOUT_S)
            except Exception:  # noqa: BLE001  every failure means "not yet"
                await asyncio.sleep(_READY_POLL_S)
            else:
                return True
        return False

    def _pause_before_restart(self) -> float | None:
        """Seconds to wait, growing with the deaths of the last minute; None: no restart."""
        now = time.monotonic()
        while self._deaths and self._deaths[0] < now - 60:
            self._deaths.popleft()
        recent = len(self._deaths)
        self._deaths.append(now)
        if self._on_death == "stop the stack" or recent >= self._policy.restarts_a_minute_max:
            return None
        return min(self._policy.backoff_first_s * 2.0**recent, self._policy.backoff_max_s)

    @property
    def _on_death(self) -> OnDeath:
        return self.child.on_death or self._policy.on_death

    def _why_no_restart(self) -> str:
        if self._on_death == "stop the stack":
            return "its death stops the stack"
        return f"{self._policy.restarts_a_minute_max} restarts a minute are the limit"

    async def _enter(self, state: State) -> None:
        async with self._settled:
            self.state = state
            self._settled.notify_all()
        self._changed(self)


def _send(process: asyncio.subprocess.Process, sig: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(sig)
