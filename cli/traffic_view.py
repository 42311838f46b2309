"""What a traffic does now: on a terminal a bar and a table by RPC, else a line now and then."""

import time
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.traffic_workers import Seen
from millrace.traffic.tally import DROPPED, OK, SKIPPED

_LINE_INTERVAL_S = 10.0
_BAR_WIDTH = 40


class TrafficView:
    """`seen` while it is open. `seconds`: of the plan, which begins at `start_s` (monotonic)."""

    def __init__(self, console: Console, start_s: float, seconds: float) -> None:
        self._console = console
        self._start_s = start_s
        self._seconds = seconds
        self._line_s = start_s
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def seen(self, seen: Seen) -> None:
        now_s = time.monotonic()
        at_s = min(max(now_s - self._start_s, 0.0), self._seconds)
        if self._console.is_terminal:
            self._live.update(self._drawn(seen, at_s), refresh=True)
        elif now_s - self._line_s >= _LINE_INTERVAL_S:
            self._line_s = now_s
            line = f"    traffic: {at_s:.0f} of {self._seconds:.0f} s  {summary(seen)}"
            self._console.print(line, highlight=False)

    def _drawn(self, seen: Seen, at_s: float) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._seconds, completed=at_s, width=_BAR_WIDTH)
        head.add_row("traffic", bar, f"{at_s:.0f} of {self._seconds:.0f} s")
        return Group(head, Text(summary(seen), style="dim"), newest_table(seen))


def summary(seen: Seen) -> str:
    outcomes = seen.outcomes
    failed = outcomes.total() - outcomes[OK] - outcomes[SKIPPED] - outcomes[DROPPED]
    return (
        f"{outcomes[OK]:,} answered, {failed:,} failed, {outcomes[DROPPED]:,} dropped,"
        f" {seen.under_way} under way"
    )


def newest_table(seen: Seen) -> Table:
    """The last whole window, by RPC."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("RPC", no_wrap=True)
    for column in ("answered/s", "failed/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    newest = seen.newest
    for rpc in newest.rpcs:
        cell = newest.sum(rpc)
        table.add_row(
            rpc,
            f"{cell.ok / newest.window_s:.1f}",
            Text(f"{cell.failed / newest.window_s:.1f}" if cell.failed else "", style="red"),
            f"{cell.latencies.ms(50):.1f}",
            f"{cell.latencies.ms(99):.1f}",
        )
    return table
