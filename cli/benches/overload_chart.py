"""Answers against what is asked, drawn: with and without admission."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Point:
    """Calls a second: offered, answered in time, answered at all, refused. `times`: offered in
    times of the capacity.
    """

    times: float
    offered: float
    good: float
    answered: float
    refused: float


def draw(
    curves: Mapping[str, Sequence[Point]], peak: float, capacity: float, good_ms: float, file: Path
) -> None:
    """`curves` by name; several points of a load are rounds, the lines are their medians."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    most = max((point.offered for points in curves.values() for point in points), default=1.0)
    axes.plot([0, most], [0, most], ":", color="grey", label="offered")
    axes.axhline(0.8 * peak, linestyle="--", color="grey", linewidth=0.8, label="80 % of the peak")
    for (name, points), colour in zip(curves.items(), ("tab:blue", "tab:red"), strict=False):
        loads = sorted({point.times for point in points})
        rounds = [[point for point in points if point.times == times] for times in loads]
        offered = [median(point.offered for point in those) for those in rounds]
        axes.plot(
            offered,
            [median(point.good for point in those) for those in rounds],
            color=colour,
            label=f"good answers (within {good_ms:.0f} ms), {name}",
        )
        axes.plot(
            offered,
            [median(point.refused for point in those) for those in rounds],
            "--",
            color=colour,
            alpha=0.5,
            label=f"refusals, {name}",
        )
        axes.scatter(
            [point.offered for point in points], [point.good for point in points], 12, color=colour
        )
    axes.axvline(capacity, color="grey", linewidth=0.8)
    axes.annotate("capacity", (capacity, most * 0.97), color="grey")
    axes.set_xlabel("calls offered a second")
    axes.set_ylabel("calls a second")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
