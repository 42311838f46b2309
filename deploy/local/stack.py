"""The local stack: the real servers, and whatever is added to them, as children of this process.

    async with LocalStack(StackSettings(data_dir)) as stack:    # the servers have answered
        stack.add(Child(name="grpc-0", argv=…, ready=…, depends_on=("kafka", "postgres")))
        await stack.wait_ready("grpc-0")

Where a person or a signal may end it, `serve` does the same and stops in order:

    await LocalStack(settings).serve(work)                        # or Ctrl-C, or a failed child

One stack a data directory, held by a lock that the kernel frees with the process. All methods
belong to one event loop, whose thread must live as long as the stack (see `child.py`).
Not: more than one machine, or more than one node of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import psutil

from deploy.local import cassandra, kafka, memcached, postgres, status
from deploy.local.child import Child
from deploy.local.ports import Ports
from deploy.local.status import ChildStatus, Process, StackStatus
from deploy.local.watch import ChildFailed, RestartPolicy, State, Watched

T = TypeVar("T")
SERVERS = (kafka.NAME, cassandra.NAME, postgres.NAME, memcached.NAME)
DATA_DIR_DEFAULT = Path(__file__).resolve().parents[2] / ".millrace"
_LEFTOVER_PATIENCE_S = 3.0
_TASK_END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class StackSettings:
    """Heaps fit for two cores; `usual_ports` false leaves the well-known ports to others."""

    data_dir: Path = DATA_DIR_DEFAULT
    servers: tuple[str, ...] = SERVERS
    usual_ports: bool = True
    kafka_heap_mb: int = 512
    cassandra_heap_mb: int = 768
    memcached_memory_mb: int = 256
    restarts: RestartPolicy = field(default_factory=RestartPolicy)


class AlreadyRunning(Exception):
    """Another process holds the lock of this data directory."""


class LocalStack:
    """Start, watch and stop the children of one data directory."""

    def __init__(self, settings: StackSettings, *, report: Callable[[str], None] = print) -> None:
        self.data_dir = settings.data_dir.absolute()
        self.settings = settings
        self.ports = Ports(self.data_dir / "ports.json", usual=settings.usual_ports)
        self.addresses: dict[str, Any] = {}
        self._report = report
        self._watched: dict[str, Watched] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock: IO[str] | None = None
        self._over = asyncio.Event()
        self._failure = ""

    @property
    def status_file(self) -> Path:
        """stack.json, for `MILLRACE_STACK_FILE` of the children and for tests."""
        return self.data_dir / status.FILE

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the servers; returns when all have answered.

        Raises AlreadyRunning, or ChildFailed with the last lines of the child.
        """
        if not self.data_dir.exists():
            self.data_dir.mkdir(parents=True)
            # PostgreSQL runs as another user when we are root, and must get through.
            self.data_dir.chmod(0o711)
        self._take_lock()
        await asyncio.to_thread(self._end_leftovers)
        (self.data_dir / "logs").mkdir(exist_ok=True)
        self.addresses = {
            "objects_url": f"file://{self.data_dir / 'objects'}",
            "keys_dir": str(self.data_dir / "keys"),
        }
        for child, addresses in self._servers():
            self.addresses.update(addresses)
            self.add(child)
        await self.wait_all_ready()

    def add(self, child: Child) -> None:
        """Start a child as soon as those that it depends on are ready, and keep it alive.

        Those must have been added before, so there are no circles.
        """
        if child.name in self._watched and not self._tasks[child.name].done():
            raise ValueError(f"{child.name} runs already")
        if unknown := set(child.depends_on) - set(self._watched):
            raise ValueError(f"{child.name} depends on {unknown}, which nobody added")
        self._watched[child.name] = watched = Watched(
            child,
            log=self.log(child.name),
            policy=self.settings.restarts,
            changed=lambda _: self._write_status(),
            report=self._report,
        )
        self._tasks[child.name] = asyncio.create_task(self._live(watched), name=child.name)

    async def wait_ready(self, *names: str) -> None:
        """Raises ChildFailed as soon as one of them has failed for good."""
        await asyncio.gather(*(self._watched[name].wait_ready() for name in names))

    async def wait_all_ready(self) -> None:
        await self.wait_ready(*self._watched)

    def kill(self, name: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """As if it died by itself: what follows is by the restart policy."""
        self._watched[name].kill(sig)

    async def stop_child(self, name: str) -> None:
        """Stop one child in order; it stays stopped until `start_child`."""
        await self._end(self._watched[name])

    async def start_child(self, name: str) -> None:
        """Start a stopped child; returns when it has answered."""
        self.add(self._watched[name].child)
        await self.wait_ready(name)

    def log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"

    def status(self) -> StackStatus:
        children = {
            name: ChildStatus(
                state=str(watched.state),
                restarts=watched.restarts,
                log=str(watched.log),
                process=Process.of(watched.pid) if watched.pid else None,
            )
            for name, watched in self._watched.items()
        }
        ready = bool(children) and all(child.state == State.READY for child in children.values())
        launcher = Process.of(os.getpid()) if self._lock else None
        return StackStatus(str(self.data_dir), ready, launcher, children, self.addresses)

    def request_stop(self) -> None:
        """Let `serve` end; asked again, kill what has not stopped yet."""
        if self._over.is_set():
            for name in self._watched:
                self.kill(name)
        self._over.set()

    async def serve(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Start the servers, do `work`, stop all; what `work` returned, None if it was cut off.

        SIGINT, SIGTERM and SIGHUP cancel `work`, and so does a child that fails for good; then
        ChildFailed is raised after the orderly stop. Raises AlreadyRunning, too.
        """
        with self._stop_on_signals():
            job = asyncio.create_task(self._start_and(work))
            over = asyncio.create_task(self._over.wait())
            try:
                await asyncio.wait({job, over}, return_when=asyncio.FIRST_COMPLETED)
                return job.result() if job.done() else None
            finally:
                over.cancel()
                await self._settle(job, patience_s=0)
                await self.stop()
                if self._failure:
                    raise ChildFailed(self._failure)

    async def until_over(self) -> None:
        """For work inside `serve` that has no end of its own, or `async with` without `serve`.

        Returns when somebody asked to stop; raises ChildFailed when a child failed for good.
        """
        await self._over.wait()
        if self._failure:
            raise ChildFailed(self._failure)

    async def stop(self) -> None:
        """Stop all, dependants before what they depend on, and let the data directory go."""
        while layer := self._nothing_depends_on():
            await asyncio.gather(*(self._end(watched) for watched in layer))
            for watched in layer:
                del self._watched[watched.child.name]
        self.ports.release()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            self._write_status()

    def _servers(self) -> Iterator[tuple[Child, dict[str, object]]]:
        settings, ports = self.settings, self.ports
        makers: dict[str, Callable[[Path], tuple[Child, dict[str, object]]]] = {
            kafka.NAME: lambda folder: kafka.child(
                folder, ports, heap_mb=settings.kafka_heap_mb, log=self.log(kafka.NAME)
            ),
            cassandra.NAME: lambda folder: cassandra.child(
                folder, ports, heap_mb=settings.cassandra_heap_mb
            ),
            postgres.NAME: lambda folder: postgres.child(
                folder, ports, log=self.log(postgres.NAME)
            ),
            memcached.NAME: lambda _: memcached.child(
                ports, memory_mb=settings.memcached_memory_mb
            ),
        }
        for name in settings.servers:
            yield makers[name](self.data_dir / name)

    async def _start_and(self, work: Callable[[], Awaitable[T]]) -> T:
        await self.start()
        return await work()

    async def _live(self, watched: Watched) -> None:
        try:
            await self.wait_ready(*watched.child.depends_on)
        except ChildFailed as problem:
            await watched.give_up(f"{watched.child.name} waited in vain: {problem}")
            return
        await watched.run()
        if watched.state is State.FAILED:
            self._failure = self._failure or watched.failure
            self._report(watched.failure)
            self._over.set()

    async def _end(self, watched: Watched) -> None:
        waiting = watched.state is State.WAITING
        await watched.stop()
        patience_s = 0 if waiting else _TASK_END_TIMEOUT_S
        await self._settle(self._tasks[watched.child.name], patience_s=patience_s)

    async def _settle(self, task: asyncio.Task[Any], *, patience_s: float) -> None:
        """Let a task end, cancel it when it does not; what it raised was told elsewhere."""
        await asyncio.wait({task}, timeout=patience_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task

    def _nothing_depends_on(self) -> list[Watched]:
        needed = {name for watched in self._watched.values() for name in watched.child.depends_on}
        return [watched for name, watched in self._watched.items() if name not in needed]

    def _write_status(self) -> None:
        self.status().write(self.data_dir)

    def _take_lock(self) -> None:
        lock = (self.data_dir / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            running = status.read(self.data_dir)
            pid = running.launcher.pid if running and running.launcher else "unknown"
            said = f"one is running: {self.data_dir} is in use by process {pid}"
            raise AlreadyRunning(said) from None
        self._lock = lock

    def _end_leftovers(self) -> None:
        """After a kill of the launcher its children may still be dying: see them gone."""
        before = status.read(self.data_dir)
        recorded = [child.process for child in before.children.values()] if before else []
        alive = [found for process in recorded if process and (found := process.alive())]
        alive += postgres.leftovers(self.data_dir / postgres.NAME)
        _, stubborn = psutil.wait_procs(alive, timeout=_LEFTOVER_PATIENCE_S)
        for process in stubborn:
            self._report(f"ending process {process.pid}, left by an earlier stack")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=_LEFTOVER_PATIENCE_S)

    @contextlib.contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for sig in signals:
            loop.add_signal_handler(sig, self.request_stop)
        try:
            yield
        finally:
            for sig in signals:
                loop.remove_signal_handler(sig)
