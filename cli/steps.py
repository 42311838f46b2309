"""What a long command does now: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINE_INTERVAL_S = 10.0


class Steps:
    """One step after another. Steps with a `total` have a bar."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = console.is_terminal
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            console=console,
            disable=not self._live,
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while inside; what is printed meanwhile appears above."""
        with self._progress:
            yield

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator["Step"]:
        step = Step(self, name, total)
        started_s = time.monotonic()
        try:
            yield step
        except BaseException:
            step.end(failed=True)
            raise
        step.end()
        if not self._live:
            took_s = time.monotonic() - started_s
            self.console.print(f"  {name:<40} {took_s:6.1f} s  {step.note_text}", highlight=False)


class Step:
    def __init__(self, steps: Steps, name: str, total: float | None) -> None:
        self.note_text = ""
        self._steps = steps
        self._name = name
        self._total = total
        self._progress = steps._progress
        self._task = self._progress.add_task(name, total=total, note="")
        self._line_s = time.monotonic()

    def note(self, text: str) -> None:
        self.note_text = text
        self._progress.update(self._task, note=text)

    def at(self, done: float, text: str = "") -> None:
        """So much of the total; every few seconds a line where there is no bar."""
        self.note_text = text
        self._progress.update(self._task, completed=done, note=text)
        now_s = time.monotonic()
        if self._progress.disable and now_s - self._line_s >= _LINE_INTERVAL_S:
            self._line_s = now_s
            line = f"    {self._name}: {done:.0f} of {self._total or 0:.0f}  {text}"
            self._steps.console.print(line, highlight=False)

    def end(self, *, failed: bool = False) -> None:
        total = self._total or 1.0
        if failed:
            self._progress.update(self._task, note="failed")
            self._progress.stop_task(self._task)
        else:
            self._progress.update(self._task, total=total, completed=total)
