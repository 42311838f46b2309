"""SIGSTOP and SIGCONT under recorded traffic: servers and processes that hang, and wake up.

A processor that wakes up after another has taken its partitions applies nothing twice.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli.processes import healthy
from deploy.local.child import Child
from millrace.views.lag import LagMeter
from tests.fault_rounds import FaultRounds, fault_rounds
from tests.system.test_kills_of_servers import BOUND_S, SERVERS, own_servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]

# Longer than any time-out of ours for one answer (5 s), so that all of them end.
PAUSE_S = 8.0
_POLL_S = 0.1


@pytest.fixture(scope="module")
async def rounds(module_folder: Path) -> AsyncIterator[FaultRounds]:
    async with (
        own_servers(module_folder / "data", *SERVERS) as own,
        fault_rounds(own.status(), own, module_folder) as prepared,
    ):
        prepared.late_s += PAUSE_S
        yield prepared


def send(rounds: FaultRounds, name: str, sent: signal.Signals) -> None:
    """To a process and all that it started: PostgreSQL's work is done by its children."""
    process = psutil.Process(rounds.pid(name))
    for one in (process, *process.children(recursive=True)):
        one.send_signal(sent)


@pytest.mark.parametrize("name", [*SERVERS, "grpc-0", "projector", "fanout"])
async def test_paused_for_some_seconds(rounds: FaultRounds, name: str) -> None:
    async def fault() -> None:
        send(rounds, name, signal.SIGSTOP)
        # Not a wait for anything: the pause is the fault.
        await asyncio.sleep(PAUSE_S)
        send(rounds, name, signal.SIGCONT)

    await rounds.meet(f"{name} paused for {PAUSE_S:.0f} s", fault, bound_s=BOUND_S)


@pytest.mark.parametrize("name", ["projector", "fanout"])
async def test_a_paused_worker_wakes_after_another_took_over(
    rounds: FaultRounds, name: str
) -> None:
    supervisor = rounds.millrace.supervisor
    second = second_worker(rounds, name)

    async def fault() -> None:
        supervisor.add(second)
        await supervisor.wait_ready(second.name)
        send(rounds, name, signal.SIGSTOP)
        # Each owner's partition has something new, which only the second worker can take.
        for one in rounds.sessions.all:
            await one.upload()
        await caught_up(rounds)
        send(rounds, name, signal.SIGCONT)

    try:
        await rounds.meet(f"{name} paused until another had its work", fault, bound_s=BOUND_S)
    finally:
        await supervisor.stop_child(second.name)


def second_worker(rounds: FaultRounds, name: str) -> Child:
    """As a second machine would have it: the same group, another number."""
    started = rounds.millrace.installation.started
    first = next(child for child in started.children if child.name == name)
    ports = rounds.millrace.supervisor.ports
    health = ports.take(f"{name}-second.health", started.health_ports[name])
    metrics = ports.take(f"{name}-second.metrics", started.metrics_ports[name])
    numbers = {
        "MILLRACE_WORKER": "1",
        "MILLRACE_HEALTH_PORT": str(health),
        "MILLRACE_METRICS_PORT": str(metrics),
    }
    return replace(
        first, name=f"{name}-second", env={**first.env, **numbers}, ready=lambda: healthy(health)
    )


async def caught_up(rounds: FaultRounds) -> None:
    """Until each view, the planner and delivery have been at the log's end once since now."""
    meter = LagMeter(rounds.millrace.stores)
    try:
        behind = set((await meter.measure()).as_dict())
        while behind:
            lag = (await meter.measure()).as_dict()
            behind -= {name for name, records in lag.items() if not records}
            await asyncio.sleep(_POLL_S)
    finally:
        await meter.close()
