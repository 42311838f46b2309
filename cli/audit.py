"""`millrace audit`: is what is served what the log says?"""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.settings_of import DataDir, settings_of_running
from cli.steps import Step, Steps
from cli.stores import open_stores
from millrace.clock import SystemClock
from millrace.errors import InvalidRequest, MillraceError
from millrace.settings import Settings
from streams.audit import (
    CHECKS,
    Audit,
    Bounds,
    Difference,
    Finding,
    ServedByViews,
    Sources,
    Told,
)

# So many differences are kept for JSON; all are counted.
_JSON_DIFFERENCES_MAX = 10_000


def audit(
    name: Annotated[str, typer.Argument(help="counts, edges or feed; all three without")] = "",
    sample: Annotated[
        int, typer.Option(min=0, help="so many users and media of each kind; 0: all")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="which ones are the sample")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="the result as one JSON object")] = False,
    data: DataDir = None,
) -> None:
    """Compare what is served with the log, while it runs; prints each difference and fails if
    there is one.
    """
    if name and name not in CHECKS:
        raise InvalidRequest(f"there is no audit of {name!r}: {', '.join(CHECKS)}")
    checks = (name,) if name else CHECKS
    heard, found = asyncio.run(_audit(settings_of_running(data), checks, sample, seed, as_json))
    differences = sum(row.differences for row in found)
    if as_json:
        shown = [asdict(one) for one in heard.differences]
        print(json.dumps({"found": [asdict(row) for row in found], "differences": shown}))
    else:
        Console().print(_table(found))
    if differences:
        raise MillraceError(f"{differences:,} differences between the log and what is served")


class _Heard(Told):
    """Progress on stderr, differences on stdout as they are found."""

    def __init__(self, step: Step, as_json: bool) -> None:
        self.differences: list[Difference] = []
        self._step = step
        self._as_json = as_json

    def doing(self, text: str, done: float) -> None:
        self._step.at(done, text)

    def differs(self, difference: Difference) -> None:
        if not self._as_json:
            print(difference, flush=True)
        elif len(self.differences) < _JSON_DIFFERENCES_MAX:
            self.differences.append(difference)


async def _audit(
    settings: Settings, checks: tuple[str, ...], sample: int, seed: int, as_json: bool
) -> tuple[_Heard, list[Finding]]:
    bounds = Bounds(
        settings.audit_keys_max,
        settings.audit_members_max,
        settings.audit_wait_s,
        settings.audit_again_s,
    )
    steps = Steps(Console(stderr=True))
    async with open_stores(settings) as stores:
        served = ServedByViews(stores.views, stores.feeds)
        sources = Sources(stores.log, stores.views, stores.feeds, SystemClock(), served)
        with steps.shown(), steps.step("audit", total=1.0) as step:
            heard = _Heard(step, as_json)
            running = Audit(sources, bounds, heard, sample=sample, seed=seed)
            return heard, await running.run(checks)


def _table(found: list[Finding]) -> Table:
    table = Table("audit", "of", "examined", "differences", "position")
    for row in found:
        colour = "red" if row.differences else "green"
        table.add_row(
            row.check,
            row.relation,
            f"{row.examined:,}",
            f"[{colour}]{row.differences:,}[/]",
            escape(row.position),
        )
    return table
