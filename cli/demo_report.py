"""The demo's report: tables on the terminal, JSON in a file."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.traffic_tables import checks_table, counts, traffic_table
from millrace.traffic.check import Check
from millrace.traffic.report import Report
from social.v1 import media_pb2

FEED_ROWS = 10
CORES = os.cpu_count() or 1


@dataclass(slots=True)
class DemoReport:
    """Filled as the demo goes on. `log`: events by their names; seconds by step."""

    parameters: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    graph: dict[str, int] = field(default_factory=dict)
    log: dict[str, int] = field(default_factory=dict)
    lag_after_traffic: dict[str, int] = field(default_factory=dict)
    caught_up_s: float = 0.0
    traffic: Report | None = None
    checks: list[Check] = field(default_factory=list)
    restarts: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def write(self, file: Path) -> None:
        document = asdict(self) | {"passed": self.passed}
        for check, listed in zip(self.checks, document["checks"], strict=True):
            listed["passed"] = check.passed
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1))

    def print(self, console: Console) -> None:
        if self.traffic is not None:
            console.print(traffic_table(self.traffic))
            console.print(self._summary(self.traffic))
        console.print(checks_table(self.checks))

    def _summary(self, traffic: Report) -> Text:
        lag = ", ".join(
            f"{name} {count}" for name, count in self.lag_after_traffic.items() if count
        )
        caught_up = f"; none {self.caught_up_s:.1f} s later" if lag else ""
        cpu = ", ".join(f"{name} {used:.1f}" for name, used in self.cpu_s.items())
        cpu += f"; all {sum(self.cpu_s.values()):.0f} of {CORES * traffic.seconds:.0f}"
        events = ", ".join(f"{name} {count:,}" for name, count in sorted(self.log.items()))
        return Text(
            f"{counts(traffic)}\n"
            f"lag when the traffic ended: {lag or 'none'}{caught_up}\n"
            f"CPU seconds: {cpu}\n"
            f"in the log: {events}\n"
        )


def feed_table(handle: str, items: Sequence[media_pb2.MediaItem]) -> Table:
    """The newest items of one person's feed."""
    title = f"{handle}'s feed, newest {min(FEED_ROWS, len(items))} of {len(items)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("at")
    table.add_column("author", style="bold")
    table.add_column("caption")
    table.add_column("likes", justify="right")
    for item in items[:FEED_ROWS]:
        at = item.created_at.ToDatetime().strftime("%H:%M:%S")
        likes = Text(f"{'♥' if item.viewer_likes else '♡'} {item.likes_count}", style="red")
        table.add_row(at, item.author.handle, item.caption, likes)
    return table
