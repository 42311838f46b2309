"""`millrace demo`: real servers, a real graph, a minute of traffic, checks, a report.

Exits 0 only if every check passes and no process is left.
"""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from cli.demo_report import DemoReport, feed_table
from cli.demo_run import BUILD, DemoRun
from cli.steps import Steps
from millrace.errors import MillraceError

# About half of what two cores carry, servers and clients together.
RATE_PER_S = 100.0
_LINE_COLUMNS = 110


def demo(
    seconds: Annotated[float, typer.Option(help="length of the traffic")] = 60.0,
    rate: Annotated[float, typer.Option(help="calls a second")] = RATE_PER_S,
    seed: Annotated[int, typer.Option(help="of the plan and the pictures")] = 1,
    actors: Annotated[int, typer.Option(help="people of the graph who come online")] = 300,
) -> None:
    """Start everything, load a real graph, run real traffic, check it, show it, stop."""
    console = Console(width=None if sys.stdout.isatty() else _LINE_COLUMNS)
    report = DemoReport({"seconds": seconds, "rate": rate, "seed": seed, "actors": actors})
    run = DemoRun(report, Steps(console))
    asyncio.run(run.run())
    if not report.checks:
        raise MillraceError("broken off before the checks")
    report.write(BUILD / "report.json")
    report.print(console)
    console.print(feed_table(run.shown_handle, run.shown_items))
    console.print(f"pictures: {BUILD / 'feed.png'}\nfigures:  {BUILD / 'report.json'}")
    if left := run.left():
        raise MillraceError(f"processes are left: {', '.join(left)}")
    if not report.passed:
        wrong = sum(not check.passed for check in report.checks)
        raise MillraceError(f"{wrong} of {len(report.checks)} checks failed")
    console.print("[green]every check passed; all processes have ended[/]")
