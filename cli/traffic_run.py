"""A run of traffic, step by step: people, sessions, the calls, the checks."""

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.console import Console

from cli.processes import ROOT
from cli.steps import Steps
from cli.traffic_places import Place
from cli.traffic_view import TrafficView
from cli.traffic_workers import Workers, working
from millrace.client import Client
from millrace.traffic.arrivals import Burst
from millrace.traffic.check import Check
from millrace.traffic.graph import following_of
from millrace.traffic.mix import TALK, Mix
from millrace.traffic.orders import Order, Turn
from millrace.traffic.record import Acknowledged, Record

PICTURES = ROOT / "tests" / "data" / "pictures"
# Feeds of so many people are compared with their definition.
FEEDS_CHECKED = 40
# All processes have the turn by then.
_AHEAD_S = 1.0
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who there is. `graph`, `users`: as `following_of` takes them; `online`: how many of them
    act. `outstanding_max`: calls at once, of all processes together.
    """

    graph: str
    users: int = 0
    online: int = 200
    seed: int = 1
    processes: int = 2
    tries_again: bool = False
    outstanding_max: int = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What they do. `rate`: calls a second outside of bursts."""

    rate: float
    seconds: float
    mix: Mix = TALK
    burst: Burst | None = None
    celebrity_every_s: float = 0.0


class TrafficRun:
    """People who are online at a place, as `gathered` gives them. `acknowledged`: all that they
    have written, by RPC.
    """

    def __init__(
        self, place: Place, workers: Workers, acknowledged: Acknowledged, console: Console
    ) -> None:
        self.acknowledged = acknowledged
        self._place = place
        self._workers = workers
        self._console = console
        self._turns = 0

    @property
    def pids(self) -> Mapping[str, Sequence[int]]:
        return {"traffic": self._workers.pids}

    async def play(self, load: Load) -> Record:
        """One turn. What was acknowledged is remembered for the checks."""
        self._turns += 1
        start_s = time.monotonic() + _AHEAD_S
        turn = Turn(
            number=self._turns,
            start_s=start_s,
            seconds=load.seconds,
            rate=load.rate,
            mix={str(rpc): weight for rpc, weight in load.mix.weights.items()},
            posted=[],
            burst=(load.burst.times, load.burst.seconds, load.burst.every_s)
            if load.burst
            else None,
            celebrity_every_s=load.celebrity_every_s,
        )
        with TrafficView(self._console, start_s, load.seconds) as view:
            record = await self._workers.play(turn, view.seen)
        self.acknowledged.add_all(record.acknowledged)
        return record

    async def check(self) -> list[Check]:
        """When nobody writes any more. The people are offline afterwards."""
        checks: list[Check] = []
        handed = await self._workers.sessions(FEEDS_CHECKED)
        sessions = [one.session() for one in handed]
        async with Client(self._place.addresses[0], connections=_CONNECTIONS) as client:
            steps = Steps(self._console)
            with steps.shown(), steps.step("checks") as step:
                found = self._place.checks(client, sessions, self.acknowledged, step.note)
                async for check in found:
                    checks.append(check)
                    step.note(f"{len(checks)}: {check.claim}")
        return checks


@asynccontextmanager
async def gathered(crowd: Crowd, place: Place, console: Console) -> AsyncIterator[TrafficRun]:
    """Raises MillraceError when they cannot come."""
    following = following_of(crowd.graph, crowd.users, crowd.seed)
    # By chance, not by the seed: two runs may have one seed, and no two may have one handle.
    run = f".{secrets.token_hex(3)}"
    steps = Steps(console)
    async with working(_orders(crowd, place, run)) as workers:
        with steps.shown():
            with steps.step("people") as step:
                user_ids = await place.people(workers, following, run, step.note)
                step.note(f"{len(following):,} with {sum(map(len, following)):,} follows")
            with steps.step("sessions") as step:
                acknowledged = await workers.come_online(
                    user_ids, lambda done, total: step.note(f"{done:,} of {total:,}")
                )
        yield TrafficRun(place, workers, acknowledged, console)


def _orders(crowd: Crowd, place: Place, run: str) -> list[Order]:
    processes = max(crowd.processes, len(place.addresses))
    return [
        Order(
            address=place.addresses[worker % len(place.addresses)],
            worker=worker,
            workers=processes,
            graph=crowd.graph,
            users=crowd.users,
            seed=crowd.seed,
            online=crowd.online,
            run=run,
            register=place.registers,
            pictures=str(PICTURES),
            tries_again=crowd.tries_again,
            outstanding_max=-(-crowd.outstanding_max // processes),
            connections=_CONNECTIONS,
        )
        for worker in range(processes)
    ]
