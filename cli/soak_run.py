"""The soak, step by step: servers, people, capacity, the long run, catching up, audit, checks."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from cli import data_folder
from cli.growth import Growth, growths
from cli.installation import environment_of, prepare_own, start_processes
from cli.processes import OWN, ROOT
from cli.steps import Steps
from cli.stores import OpenStores, open_stores
from cli.traffic_places import WithStores
from cli.traffic_report import TrafficReport
from cli.traffic_run import Crowd, Load, TrafficRun, gathered
from cli.vitals import Vitals, pids_of_stack
from deploy.local import status
from deploy.local.child import bound_argv
from deploy.local.stack import SERVERS, LocalStack, StackSettings
from millrace.errors import FailedPrecondition, MillraceError
from millrace.settings import Settings
from millrace.traffic.report import report_of
from millrace.views import lag

SHARE = 0.7
# An answer later than that is none, for the capacity.
GOOD_MS = 500.0
_FIRST_RATE, _STEP, _RATE_MAX = 40.0, 1.3, 5_000.0
_SEARCH_S = 8.0
# A rate that brings less than this more good answers is past the peak.
_GROWTH_MIN = 1.03
_AUDIT_TIMEOUT_S = 1_800.0


@dataclass(slots=True)
class SoakReport(TrafficReport):
    """`audit`: what it printed; `restarts`: of all processes during the soak."""

    capacity: float = 0.0
    growths: Sequence[Growth] = ()
    audit: Mapping[str, Any] = field(default_factory=dict)
    audit_code: int = 0
    restarts: int = 0

    @property
    def wrong(self) -> list[str]:
        """Empty when the soak has passed."""
        unknown = sum(one.unknown for one in self.growths)
        grown = [
            f"{one.process}'s {one.what}"
            for one in self.growths
            if not one.passed and not one.unknown
        ]
        checks = sum(not check.passed for check in self.checks)
        found = []
        if grown:
            found.append(f"growth of {', '.join(grown)}")
        if unknown or not self.growths:
            found.append("too few samples to judge growth")
        if self.audit_code:
            found.append("the audit found differences")
        if checks or not self.checks:
            found.append(f"{checks} of {len(self.checks)} checks failed")
        if self.restarts:
            found.append(f"{self.restarts} processes died")
        return found

    @property
    def sentences(self) -> list[str]:
        """What the tables do not say."""
        capacity = f"capacity {self.capacity:.0f} good answers a second; " if self.capacity else ""
        examined = sum(row["examined"] for row in self.audit.get("found", ()))
        differences = sum(row["differences"] for row in self.audit.get("found", ()))
        return [
            f"{capacity}soaked at {self.parameters.get('soaked at', 0):.0f} calls a second",
            f"audit: {examined:,} examined, {differences:,} differences, exit code"
            f" {self.audit_code}",
            f"restarts of processes: {self.restarts}",
        ]

    def as_json(self) -> dict[str, Any]:
        more = {
            "capacity": self.capacity,
            "growths": [asdict(one) | {"passed": one.passed} for one in self.growths],
            "audit": self.audit,
            "restarts": self.restarts,
            "wrong": self.wrong,
        }
        return TrafficReport.as_json(self) | more


class SoakRun:
    """What it finds goes into `report`."""

    def __init__(self, build: Path, crowd: Crowd, report: SoakReport, console: Console) -> None:
        self._build = build
        self._crowd = crowd
        self._report = report
        self._console = console

    async def run(self, seconds: float, rate: float) -> None:
        """`rate` 0: found. Raises ChildFailed when a process cannot be kept alive."""
        data = self._build / "data"
        running = status.read(data)
        if running is not None and running.running():
            raise FailedPrecondition(f"a soak is running in {self._build}")
        data_folder.remove(data)
        stack = LocalStack(
            StackSettings(data_dir=data, usual_ports=False),
            report=lambda text: self._console.print(text, markup=False, highlight=False),
        )
        self._console.print("servers")
        await stack.serve(lambda: self._work(stack, seconds, rate))
        if not self._report.wrong:
            data_folder.remove(data)

    async def _work(self, stack: LocalStack, seconds: float, rate: float) -> None:
        steps = Steps(self._console)
        with steps.shown():
            with steps.step("keys, topics, tables") as step:
                prepared = await prepare_own(environment_of(stack), told=step.note)
            with steps.step("processes"):
                installation = await start_processes(stack, environment_of(stack), prepared)
        async with open_stores(installation.settings) as stores:
            place = WithStores(installation.settings, stores)
            async with gathered(self._crowd, place, self._console) as run:
                if not rate:
                    self._report.capacity = await self._capacity(run, place)
                    rate = SHARE * self._report.capacity
                await self._soak(run, stores, stack, Load(rate, seconds))
                await place.caught_up()
                await self._audit(installation.settings)
                self._report.checks = await run.check()
        self._report.restarts = sum(one.restarts for one in stack.status().children.values())

    async def _capacity(self, run: TrafficRun, place: WithStores) -> float:
        """The most good answers a second, of rates that rise until two brought no more."""
        best, rate, tired = 0.0, _FIRST_RATE, 0
        while rate < _RATE_MAX:
            record = await run.play(Load(rate, _SEARCH_S))
            good = record.tally.sum().latencies.within(GOOD_MS) / record.seconds
            self._console.print(
                f"    {rate:.0f} calls/s offered, {good:.0f} good answers/s", highlight=False
            )
            await place.caught_up()
            tired = tired + 1 if good < best * _GROWTH_MIN else 0
            best, rate = max(best, good), rate * _STEP
            if tired == 2:
                return best
        raise MillraceError(f"more than {_RATE_MAX:.0f} calls/s are no load for these processes")

    async def _soak(
        self, run: TrafficRun, stores: OpenStores, stack: LocalStack, load: Load
    ) -> None:
        self._report.parameters |= {"soaked at": round(load.rate, 1), "mix": load.mix.name}
        self._console.print(
            f"soaking for {load.seconds / 60:g} minutes at {load.rate:.0f} calls/s", highlight=False
        )
        meter = lag.LagMeter(stores)
        vitals = Vitals(
            lambda: {**run.pids, **pids_of_stack(stack.status_file)}, load.seconds, meter
        )
        watch = asyncio.create_task(vitals.watch())
        try:
            record = await run.play(load)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await meter.close()
        self._report.traffic = report_of(record)
        self._report.vitals = vitals.samples
        own = [process.name for process in OWN]
        self._report.growths = growths(vitals.samples, own, SERVERS, rate=load.rate)

    async def _audit(self, settings: Settings) -> None:
        """`millrace audit`, as an operator would call it."""
        steps = Steps(self._console)
        with steps.shown(), steps.step("audit"):
            data = str(Path(settings.stack_file).parent)
            process = await asyncio.create_subprocess_exec(
                *bound_argv((sys.executable, "-m", "cli.main", "audit", "--json", "--data", data)),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            try:
                async with asyncio.timeout(_AUDIT_TIMEOUT_S):
                    told, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                raise MillraceError(f"no end of the audit in {_AUDIT_TIMEOUT_S:.0f} s") from None
        self._report.audit_code = process.returncode or 0
        lines = told.decode().strip().splitlines()
        if not lines:
            raise MillraceError(f"the audit ended with {process.returncode} and said nothing")
        self._report.audit = json.loads(lines[-1])
