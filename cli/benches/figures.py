"""What a bench found: rounds in, rows out, as build/bench/NAME.json and as a table."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PACKAGES = ("aiokafka", "asyncpg", "cassandra-driver", "faust-streaming", "grpcio", "protobuf")


@dataclass(slots=True)
class Round:
    """One turn of one side. `cpu_us` by process: user and system time of all of them."""

    items: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)
    quantiles_ms: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.items / self.seconds


@dataclass(slots=True)
class Row:
    """One figure: medians over the rounds. `limit` is the bare part in the same unit.

    `ratio`: value / limit for rates, limit / value for times, so more is better. `spread`: the
    lowest and the highest round. `ratio_by_round` compares neighbours in time: it tells more
    than `ratio` when the machine has other work, too.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    ratio: float | None = None
    cpu_us_per_item: float | None = None
    spread: tuple[float, float] | None = None
    limit_spread: tuple[float, float] | None = None
    limit_cpu_us_per_item: float | None = None
    ratio_by_round: list[float] = field(default_factory=list)
    cpu_us_per_item_by_process: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    note: str = ""
    machine: dict[str, object] = field(default_factory=dict)


def rate_row(
    name: str, unit: str, sides: Sequence[Round], limits: Sequence[Round] = (), note: str = ""
) -> Row:
    """Items a second. `limits`: the bare part's rounds, in the order of `sides`."""
    return _row(name, unit, sides, limits, note, [r.rate for r in sides], [r.rate for r in limits])


def time_row(
    name: str, quantile: str, sides: Sequence[Round], limits: Sequence[Round] = (), note: str = ""
) -> Row:
    """A quantile of the time that an item takes, in ms."""
    values = [one.quantiles_ms[quantile] for one in sides]
    bare = [one.quantiles_ms[quantile] for one in limits]
    row = _row(name, "ms", sides, limits, note, values, bare)
    row.ratio = row.limit / row.value if row.limit else None
    row.ratio_by_round = [1 / ratio for ratio in row.ratio_by_round]
    return row


def _row(
    name: str,
    unit: str,
    sides: Sequence[Round],
    limits: Sequence[Round],
    note: str,
    values: Sequence[float],
    bare: Sequence[float],
) -> Row:
    value = statistics.median(values)
    limit = statistics.median(bare) if bare else None
    return Row(
        name,
        value,
        unit,
        limit,
        value / limit if limit else None,
        _cpu_us(sides),
        (min(values), max(values)),
        (min(bare), max(bare)) if bare else None,
        _cpu_us(limits),
        [one / other for one, other in zip(values, bare, strict=False)],
        _cpu_by_process(sides),
        len(values),
        note,
        machine(),
    )


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_1min": round(os.getloadavg()[0], 1),
        **{name: version(name) for name in _PACKAGES},
    }


def write(rows: Sequence[Row], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def table(title: str, rows: Sequence[Row]) -> Table:
    """Below each median the lowest and the highest round."""
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    drawn.add_column("")
    drawn.add_column("unit")
    for column in ("value", "bare part", "ratio", "CPU µs", "bare"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        by_round = row.ratio_by_round
        drawn.add_row(
            Text(row.name, style="bold"),
            row.unit,
            _cell(row.value, row.spread),
            _cell(row.limit, row.limit_spread),
            _cell(row.ratio, (min(by_round), max(by_round)) if by_round else None, digits=2),
            _number(row.cpu_us_per_item),
            _number(row.limit_cpu_us_per_item),
        )
    return drawn


def print_rows(console: Console, title: str, rows: Sequence[Row]) -> None:
    console.print(table(title, rows))
    for row in rows:
        spent = ", ".join(
            f"{name} {us:.1f}" for name, us in sorted(row.cpu_us_per_item_by_process.items())
        )
        console.print(f"[bold]{row.name}[/]: {row.note}", highlight=False)
        if spent:
            console.print(f"  CPU µs an item: {spent}", highlight=False)
    if rows:
        facts = ", ".join(f"{name} {value}" for name, value in rows[0].machine.items())
        console.print(f"{rows[0].rounds} rounds, medians. {facts}", highlight=False)


def _cpu_us(rounds: Sequence[Round]) -> float | None:
    """None where it was not measured: a part of a turn."""
    if not any(one.cpu_us for one in rounds):
        return None
    return statistics.median(sum(one.cpu_us.values()) / max(one.items, 1) for one in rounds)


def _cpu_by_process(rounds: Sequence[Round]) -> dict[str, float]:
    names = {name for one in rounds for name in one.cpu_us}
    return {
        name: round(
            statistics.median(one.cpu_us.get(name, 0) / max(one.items, 1) for one in rounds), 2
        )
        for name in sorted(names)
    }


def _cell(value: float | None, spread: tuple[float, float] | None, digits: int = 1) -> str:
    bounds = "-".join(_number(bound, digits) for bound in spread or ())
    return f"{_number(value, digits)}\n{bounds}"


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.{digits}f}"
