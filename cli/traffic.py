"""`millrace traffic`: open-loop calls in the talk's proportions, measured, and checked afterwards.

Exits 1 when a check fails, or the run could not be made; 2 for what cannot be understood.
"""

import asyncio
import math
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.amounts import above_0, not_below
from cli.settings_of import DataDir, settings_of_running
from cli.stores import open_stores
from cli.traffic_page import page_of
from cli.traffic_places import ByCalls, Place, WithStores
from cli.traffic_report import TrafficReport
from cli.traffic_run import Crowd, Load, TrafficRun, gathered
from cli.vitals import Vitals, pids_of_stack
from millrace.errors import InvalidRequest, MillraceError
from millrace.settings import Settings
from millrace.traffic.arrivals import burst_of
from millrace.traffic.graph import ZIPF
from millrace.traffic.mix import Mix, mix_of
from millrace.traffic.report import report_of

PROCESSES_MAX = 64
# Far above what Python can call: without a bound a slip of the keyboard has no end.
_RATE_MAX = 100_000.0
# A celebrity is looked at for ten seconds after each post.
_CELEBRITY_MIN_S = 1.0
# Who is registered by RPC costs a password's computation each.
_USERS_BY_RPC, _USERS_ZIPF = 200, 1_000
_LINE_COLUMNS = 110
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def traffic(
    rate: Annotated[float, typer.Option(help="calls a second, of all processes together")] = 100.0,
    duration: Annotated[str, typer.Option(help="such as 90s, 20m, 1h")] = "60s",
    graph: Annotated[str, typer.Option(help="a file of `follower followee` lines, or zipf")] = ZIPF,
    users: Annotated[int, typer.Option(min=0, help="of the graph; 0: all, 1000 of zipf")] = 0,
    online: Annotated[int, typer.Option(min=1, help="how many of them act")] = 200,
    mix: Annotated[str, typer.Option(help="talk, reads, likes, or likes=40,uploads=1,…")] = "talk",
    reads: Annotated[float, typer.Option(help="reads to one write; below 0: the mix's")] = -1.0,
    burst: Annotated[str, typer.Option(help="such as 'x5 for 10s every 60s'")] = "",
    celebrity: Annotated[float, typer.Option(help="who is followed most posts every … s")] = 0.0,
    processes: Annotated[
        int, typer.Option(min=1, max=PROCESSES_MAX, help="that make the calls")
    ] = 2,
    outstanding: Annotated[int, typer.Option(min=1, help="calls at once; more are dropped")] = 1024,
    retry: Annotated[bool, typer.Option("--retry", help="try again as clients do")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of people, plan and pictures")] = 1,
    verify: Annotated[
        bool, typer.Option("--verify", help="check all that was acknowledged")
    ] = False,
    against: Annotated[str, typer.Option(help="ADDRESS[,ADDRESS] of gRPC, and nothing else")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="figures")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="a page with charts")] = None,
    data: DataDir = None,
) -> None:
    """Play open-loop traffic against a running installation, and report what came of it."""
    load = Load(
        rate=above_0("--rate", rate, _RATE_MAX),
        seconds=seconds_of(duration),
        mix=_mix(mix, reads),
        burst=burst_of(burst) if burst else None,
        celebrity_every_s=not_below("--celebrity", celebrity, _CELEBRITY_MIN_S),
    )
    addresses = [address.strip() for address in against.split(",") if address.strip()]
    crowd = Crowd(
        graph=graph,
        users=users or (min(_USERS_BY_RPC, online) if addresses else 0) or _of_zipf(graph),
        online=online,
        seed=seed,
        processes=processes,
        tries_again=retry,
        outstanding_max=outstanding,
    )
    # Now, and not when an hour of traffic is over.
    for file in filter(None, (json_file, html_file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a"):
            pass
    report = TrafficReport(_parameters(load, crowd, against))
    console = Console(width=None if sys.stdout.isatty() else _LINE_COLUMNS)
    settings = None if addresses else settings_of_running(data)
    try:
        asyncio.run(_run(report, crowd, load, addresses, settings, console, verify=verify))
    finally:
        # What was measured is worth having though the checks could not be made.
        if report.traffic is not None:
            _show(report, console, json_file, html_file)
    if wrong := sum(not check.passed for check in report.checks):
        raise MillraceError(f"{wrong} of {len(report.checks)} checks failed")


def _show(
    report: TrafficReport, console: Console, json_file: Path | None, html_file: Path | None
) -> None:
    report.print(console)
    if json_file is not None:
        report.write(json_file)
    if html_file is not None:
        html_file.write_text(page_of(report))


async def _run(
    report: TrafficReport,
    crowd: Crowd,
    load: Load,
    addresses: list[str],
    settings: Settings | None,
    console: Console,
    *,
    verify: bool,
) -> None:
    async with _place(addresses, settings) as place, gathered(crowd, place, console) as run:
        async with watching(run, load.seconds, settings) as vitals:
            record = await run.play(load)
        report.traffic = report_of(record)
        report.vitals = vitals.samples
        if verify:
            report.checks = await run.check()


@asynccontextmanager
async def _place(addresses: list[str], settings: Settings | None) -> AsyncIterator[Place]:
    if settings is None:
        yield ByCalls(addresses)
        return
    async with open_stores(settings) as stores:
        yield WithStores(settings, stores)


@asynccontextmanager
async def watching(
    run: TrafficRun, seconds: float, settings: Settings | None
) -> AsyncIterator[Vitals]:
    """Of this process, the workers, and a local stack's children where the settings name one."""
    stack = Path(settings.stack_file) if settings and settings.stack_file else None

    vitals = Vitals(
        lambda: {
            **run.pids,
            "this": [os.getpid()],
            **(pids_of_stack(stack) if stack else {}),
        },
        seconds,
    )
    watch = asyncio.create_task(vitals.watch())
    try:
        yield vitals
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


def seconds_of(text: str) -> float:
    """`90s`, `20m`, `1h`, or seconds. Raises InvalidRequest."""
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS_S[found[2] or ""] if found else 0.0
    if not 0 < seconds < math.inf:
        raise InvalidRequest(f"duration {text!r} is not like 90s, 20m or 1h")
    return seconds


def _of_zipf(graph: str) -> int:
    return _USERS_ZIPF if graph == ZIPF else 0


def _mix(text: str, reads: float) -> Mix:
    mix = mix_of(text)
    return mix if reads < 0 else mix.with_reads(reads)


def _parameters(load: Load, crowd: Crowd, against: str) -> dict[str, object]:
    burst = load.burst
    return {
        "rate": load.rate,
        "seconds": load.seconds,
        "mix": load.mix.name,
        "shares": {str(rpc): round(share, 4) for rpc, share in load.mix.shares.items()},
        "burst": f"x{burst.times:g} for {burst.seconds:g}s every {burst.every_s:g}s"
        if burst
        else "",
        "celebrity_every_s": load.celebrity_every_s,
        "graph": Path(crowd.graph).name,
        "users": crowd.users,
        "online": crowd.online,
        "seed": crowd.seed,
        "processes": crowd.processes,
        "outstanding_max": crowd.outstanding_max,
        "tries_again": crowd.tries_again,
        "against": against,
    }
