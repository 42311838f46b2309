"""How far a replay is: a bar with events a second and the time left, plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINE_INTERVAL_S = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed and task.total else "", style="cyan")


def slowed(items: str, per_s: float, share: float) -> str:
    """How a replay is slowed, in words; empty where it is not."""
    said = [f"at most {per_s:,.0f} {items}/s"] if per_s else []
    said += [f"at work {share:.0%} of the time"] if share < 1 else []
    return ", ".join(said)


class ReplayBar:
    """One line a step. Drawn between `start` and `stop`. `slowed`: how, told beside the rate."""

    def __init__(self, console: Console, slowed: str = "") -> None:
        self._console = console
        self._slowed = slowed
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<44}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn(slowed, style="yellow", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._name = ""
        self._task: TaskID | None = None
        self._line_s = 0.0
        self._began = (0.0, 0)

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._end()
        self._progress.stop()

    def told(self, view: str, step: str, done: int, total: int) -> None:
        """`done` of `total` events; 0 of 0 for a step that counts none."""
        name, now_s = f"{view}: {step}", time.monotonic()
        if name != self._name:
            self._end()
            self._name = name
            self._began = (now_s, done)
            self._task = self._progress.add_task(name, total=total or None, completed=done)
            self._line(name, done, total, now_s)
        elif self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None)
            if now_s - self._line_s >= _LINE_INTERVAL_S:
                self._line(name, done, total, now_s)

    def _line(self, name: str, done: int, total: int, now_s: float) -> None:
        if not self._progress.disable:
            return
        self._line_s = now_s
        began_s, began = self._began
        said = f"{done:,} of {total:,}" if total else ""
        if done > began:
            rate = (done - began) / (now_s - began_s)
            said += f", {rate:,.0f}/s, {(total - done) / rate:,.0f} s left"
        if total and self._slowed:
            said += f" ({self._slowed})"
        self._console.print(f"  {name:<44} {said}".rstrip(), highlight=False, soft_wrap=True)

    def _end(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._progress.task_ids.index(self._task)]
            total = task.total or 1
            self._progress.update(self._task, total=total, completed=total)
        self._task, self._name = None, ""
