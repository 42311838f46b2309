"""Charts of a run as SVG to put into a page: no script, nothing from the network."""

import math
import re
from collections.abc import Mapping, Sequence

import pygal
from pygal.style import Style

from cli.vitals import Vital
from millrace.traffic.report import Report

# More lines than these cannot be told apart.
LINES_MAX = 12
_RPCS_MAX = 8
_COLOURS = (
    "#3367b0", "#d0662b", "#3f8f52", "#b33a5b", "#7a58a6", "#8c7a2b", "#2b8f99", "#777777",
    "#101010", "#d9a400", "#88b04b", "#c77dba",
)  # fmt: skip
_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    opacity=".9",
    colors=_COLOURS,
    font_family="system-ui, sans-serif",
    label_font_size=15,
    major_label_font_size=15,
    legend_font_size=16,
    title_font_size=18,
    value_font_size=15,
    no_data_font_size=18,
)
# pygal leaves its settings in a script and its name in comments.
_LEFT_OUT = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)

# (seconds, value), upwards.
Line = Sequence[tuple[float, float]]


def lines(title: str, unit: str, found: Mapping[str, Line], *, logarithmic: bool = False) -> str:
    """At most `LINES_MAX` lines over the seconds of the run."""
    shown = {name: line for name, line in list(found.items())[:LINES_MAX] if line}
    chart = pygal.XY(
        **_options(title),
        show_dots=all(len(line) < 2 for line in shown.values()),
        x_title="seconds",
        y_title=unit,
        stroke_style={"width": 2},
        include_x_axis=not logarithmic,
    )
    if logarithmic and shown:
        # By hand, since pygal would take the logarithm of the seconds, too.
        shown = {n: [(x, math.log10(max(y, 0.1))) for x, y in line] for n, line in shown.items()}
        chart.y_labels = _decades([y for line in shown.values() for _, y in line])
    for name, line in shown.items():
        chart.add(name, list(line))
    return _drawn(chart)


def _decades(logarithms: Sequence[float]) -> list[dict[str, object]]:
    """Labels at 1, 10, 100, … around these."""
    first = math.floor(min(logarithms, default=0))
    last = math.ceil(max(logarithms, default=0)) + 1
    return [{"value": power, "label": f"{10.0**power:g}"} for power in range(first, last)]


def rates(report: Report) -> str:
    windows = report.windows
    found = {
        "offered": [(one.at_s, one.offered_per_s) for one in windows],
        "answered": [(one.at_s, one.ok_per_s) for one in windows],
        "refused": [(one.at_s, one.refused_per_s) for one in windows],
        "other errors": [(one.at_s, one.errors_per_s) for one in windows],
        "dropped by the generator": [(one.at_s, one.dropped_per_s) for one in windows],
    }
    some = {
        name: line
        for name, line in found.items()
        if name in ("offered", "answered") or any(value for _, value in line)
    }
    return lines("Calls a second, by their intended start", "a second", some)


def latencies(report: Report, percentile: str) -> str:
    """`p50` or `p99`, of the most frequent RPCs, from the intended start."""
    found: dict[str, Line] = {}
    for rpc in report.by_rpc[:_RPCS_MAX]:
        of_windows = (
            (one.at_s, one.p50_ms if percentile == "p50" else one.p99_ms) for one in report.windows
        )
        found[rpc.rpc] = [(at_s, of[rpc.rpc]) for at_s, of in of_windows if rpc.rpc in of]
    title = f"Latency {percentile}, from the intended start"
    return lines(title, "ms (logarithmic)", found, logarithmic=True)


def errors(report: Report) -> str:
    found = {
        reason: [(one.at_s, one.failures_per_s.get(reason, 0.0)) for one in report.windows]
        for reason in report.failures
    }
    return lines("Errors by reason", "a second", found)


def vitals(samples: Sequence[Vital], title: str, unit: str, what: str) -> str:
    """`what`: cores, memory_mib or descriptors, by process."""
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        values: Mapping[str, float] = getattr(sample, what)
        for name, value in values.items():
            found.setdefault(name, []).append((sample.at_s, float(value)))
    most = sorted(found.items(), key=lambda item: -max(value for _, value in item[1]))
    return lines(title, unit, dict(most))


def behind(samples: Sequence[Vital]) -> str:
    line = [(one.at_s, float(one.behind)) for one in samples if one.behind is not None]
    return lines("Lag of all processors", "records", {"lag": line})


def _options(title: str) -> dict[str, object]:
    return {
        "title": title,
        "style": _STYLE,
        "js": [],
        "disable_xml_declaration": True,
        "explicit_size": False,
        "width": 720,
        "height": 480,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 2,
        "legend_box_size": 14,
        "truncate_legend": -1,
        "show_x_guides": False,
        "margin": 8,
        "margin_bottom": 40,
    }


def _drawn(chart: "pygal.graph.graph.Graph") -> str:
    return _LEFT_OUT.sub("", chart.render(is_unicode=True))
