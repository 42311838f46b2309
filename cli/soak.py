"""`millrace soak`: a long run at 70 % of the capacity, on a stack of its own. Has anything grown?

Exits 1 unless nothing has, the audit agrees, and everything is there. What was found is in
build/soak: soak.html and soak.json.
"""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from cli.amounts import above_0, not_below
from cli.growth import growth_rows, growth_table
from cli.processes import ROOT
from cli.soak_run import SoakReport, SoakRun
from cli.traffic import PROCESSES_MAX
from cli.traffic_page import page_of, table
from cli.traffic_run import Crowd
from millrace.errors import InvalidRequest, MillraceError

BUILD = ROOT / "build" / "soak"
GRAPH = ROOT / "tests" / "data" / "twitch-pt.follows.gz"
_LINE_COLUMNS = 110
_MINUTES_MIN = 1.0


def soak(
    minutes: Annotated[float, typer.Option(help="of the traffic that is judged")] = 20.0,
    rate: Annotated[float, typer.Option(help="calls a second; 0: 70 % of the capacity")] = 0.0,
    graph: Annotated[str, typer.Option(help="edges of a file, or zipf")] = str(GRAPH),
    users: Annotated[int, typer.Option(min=0, help="of the graph; 0: all")] = 0,
    online: Annotated[int, typer.Option(min=1, help="how many of them act")] = 200,
    processes: Annotated[
        int, typer.Option(min=1, max=PROCESSES_MAX, help="that make the calls")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="of people, plan and pictures")] = 1,
) -> None:
    """Play mixed traffic for long, and judge growth, audit and checks."""
    above_0("--minutes", minutes)
    not_below("--rate", rate, 1.0)
    console = Console(width=None if sys.stdout.isatty() else _LINE_COLUMNS)
    crowd = Crowd(graph, users, online, seed, processes)
    if minutes < _MINUTES_MIN:
        raise InvalidRequest(f"--minutes {minutes:g}: quarters of less than 15 s say nothing")
    report = SoakReport({"minutes": minutes, "rate": rate or "70 % of the capacity"})
    asyncio.run(SoakRun(BUILD, crowd, report, console).run(minutes * 60, rate))
    report.print(console)
    console.print(growth_table(report.growths))
    for line in report.sentences:
        console.print(line, markup=False, highlight=False)
    report.write(BUILD / "soak.json")
    grown = table(("", "process", "what", "second quarter", "last quarter", "allowed"),
                  growth_rows(report.growths), "words")  # fmt: skip
    sentences = "".join(f"<p>{line}</p>" for line in report.sentences)
    more = [f"<h2>Growth and audit</h2>{sentences}{grown}"]
    (BUILD / "soak.html").write_text(page_of(report, "Soak", more))
    console.print(f"page: {BUILD / 'soak.html'}\nfigures: {BUILD / 'soak.json'}")
    if wrong := report.wrong:
        raise MillraceError(f"the soak failed: {'; '.join(wrong)}")
    console.print("[green]nothing has grown, the audit agrees, and every check passed[/]")
