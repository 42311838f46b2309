"""What a bench stands on: servers of its own, Millrace's processes that it asks for, and rounds.

    async with Stand("likes", effort, print, servers=("kafka", "postgres")) as stand: …

Fresh data each time, on ports that nobody usually has, so that a bench runs beside `make up`.
Data and logs stay only when the bench fails.
"""

import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.benches import cpu
from cli.benches.effort import Effort
from cli.benches.figures import Round
from cli.installation import environment_of, prepare_own
from cli.processes import own_children
from deploy.local.child import Child
from deploy.local.stack import SERVERS, LocalStack, StackSettings
from millrace.auth.keys import ensure_keys
from millrace.log.create import create_log
from millrace.settings import Settings
from millrace.stores.migrate import migrate

# A side of a comparison: does its turn of round n, and says how many items in how many seconds.
Side = Callable[[int], Awaitable[Round]]
Told = Callable[[str], None]


class Stand:
    """`settings` are those of every Millrace process here."""

    settings: Settings

    def __init__(
        self,
        name: str,
        effort: Effort,
        told: Told,
        *,
        servers: tuple[str, ...] = SERVERS,
        processes: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        data_dir = effort.build / f"{name}.data"
        _remove(data_dir)
        settings = StackSettings(data_dir=data_dir, servers=servers, usual_ports=False)
        self.told = told
        self._stack = LocalStack(settings, report=told)
        self._processes = processes
        self._more = dict(environment or {})
        self._pids: dict[int, str] = {}
        self._metrics_ports: Mapping[str, int] = {}

    async def __aenter__(self) -> Self:
        self.told("servers")
        await self._stack.start()
        try:
            await self._prepare()
        except BaseException:
            await self._stack.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._stack.stop()
        if error is None:
            _remove(self._stack.data_dir)

    @property
    def kafka_data_dir(self) -> Path:
        return self._stack.data_dir / "kafka"

    async def start(self, name: str) -> None:
        await self._stack.start_child(name)

    async def stop(self, name: str) -> None:
        await self._stack.stop_child(name)

    async def add(self, child: Child) -> None:
        """One more process; returns when it answers."""
        self._stack.add(child)
        await self._stack.wait_ready(child.name)

    def port(self, name: str) -> int:
        return self._stack.ports.take(name, 0)

    def metrics_port(self, name: str) -> int:
        return self._metrics_ports[name]

    def pid(self, name: str) -> int:
        return self._stack.status().pid(name)

    def count_process(self, pid: int, name: str) -> None:
        """A child that the bench started by itself has its CPU time under this name."""
        self._pids[pid] = name

    async def rounds(self, count: int, sides: Mapping[str, Side]) -> dict[str, list[Round]]:
        """The sides take turns, after one turn each that does not count: A B A B …"""
        found: dict[str, list[Round]] = {name: [] for name in sides}
        for number in range(count + 1):
            for name, side in sides.items():
                before = self.spent_us()
                done = await side(number)
                after = self.spent_us()
                done.cpu_us = {who: us - before.get(who, 0) for who, us in after.items()}
                if number:
                    found[name].append(done)
                what = f"{done.rate:,.0f}/s" if number else "warm"
                self.told(f"round {number} of {count}: {name} {what}")
        return found

    def spent_us(self) -> dict[str, float]:
        """CPU time so far of the bench, its servers and its processes, by name."""
        children = self._stack.status().children.items()
        pids = {child.process.pid: name for name, child in children if child.process}
        return cpu.spent_us(pids | self._pids)

    async def _prepare(self) -> None:
        environment = {**environment_of(self._stack), **self._more}
        if set(self._stack.settings.servers) == set(SERVERS):
            self.settings = await prepare_own(environment, told=self.told)
        else:
            self.settings = Settings.model_validate({"stack_file": str(self._stack.status_file)})
            ensure_keys(self.settings.keys_dir)
            await create_log(self.settings)
            await migrate(self.settings)
        if not self._processes:
            return
        self.told("processes")
        own = own_children(
            self._stack.ports, environment, depends_on=tuple(self._stack.settings.servers)
        )
        self._metrics_ports = own.metrics_ports
        for child in own.children:
            if child.name in self._processes:
                self._stack.add(child)
        await self._stack.wait_ready(*self._processes)
        self.settings = self.settings.model_copy(update={"grpc_address": own.grpc_address})


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start_s


def _remove(folder: Path) -> None:
    """What a run left, also where a link leads out of the folder."""
    for link in folder.iterdir() if folder.exists() else ():
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
