"""A run of traffic as one HTML page: everything is in the file, and it reads on a phone."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cli import traffic_charts as charts
from cli.traffic_report import TrafficReport
from cli.traffic_tables import counts
from millrace.traffic.check import Check
from millrace.traffic.report import Report

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 16px/1.45 system-ui, sans-serif;
  color: #23201d; background: #faf8f5; }
h1 { font-size: 1.5rem; margin: .2rem 0 .8rem; }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid #e2dcd2; }
th:first-child, td:first-child, .words td { text-align: left; }
.good { color: #2f7d43; } .bad { color: #b3261e; font-weight: 600; }
svg { width: 100%; height: auto; background: #fff; border: 1px solid #e2dcd2; border-radius: 8px;
  margin: .5rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: #6d665e; } dd { margin: 0; overflow-wrap: anywhere; }
"""


def page_of(report: TrafficReport, title: str = "Traffic", more: Iterable[str] = ()) -> str:
    """`more`: further parts, as HTML, between the charts and the parameters."""
    parts = [_verdict(report)]
    if report.traffic is not None:
        parts += _traffic(report.traffic)
    parts += _vitals(report)
    parts += more
    if report.checks:
        parts.append(f"<h2>Checks</h2>{_checks(report.checks)}")
    parts.append(f"<h2>What was asked for</h2>{_parameters(report.parameters)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Millrace: {escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>Millrace: {escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "") -> str:
    """Cells as text. `kind`: `words` for columns of words."""
    columns = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = (f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _verdict(report: TrafficReport) -> str:
    if not report.checks:
        return "<p>Nothing was checked afterwards.</p>"
    wrong = sum(not check.passed for check in report.checks)
    if wrong:
        return f'<p class="bad">{wrong} of {len(report.checks)} checks failed.</p>'
    return (
        f'<p class="good">All {len(report.checks)} checks passed: nothing acknowledged is lost.</p>'
    )


def _traffic(traffic: Report) -> list[str]:
    rows = [
        (
            rpc.rpc, f"{rpc.calls:,}", f"{rpc.per_s:.1f}", rpc.failed or "",
            *(f"{value:.1f}" for value in (rpc.p50_ms, rpc.p90_ms, rpc.p99_ms, rpc.max_ms)),
        )
        for rpc in traffic.by_rpc
    ]  # fmt: skip
    parts = [
        f"<p>{escape(counts(traffic))}.</p>",
        "<h2>By RPC: latency in ms, from the intended start</h2>",
        table(("RPC", "calls", "per s", "failed", "p50", "p90", "p99", "max"), rows),
        "<h2>Over time</h2>",
        charts.rates(traffic),
        charts.latencies(traffic, "p50"),
        charts.latencies(traffic, "p99"),
    ]
    if traffic.failures:
        parts.append(charts.errors(traffic))
    return parts


def _vitals(report: TrafficReport) -> list[str]:
    samples = report.vitals
    if not samples:
        return []
    parts = [charts.vitals(samples, "CPU by process", "cores", "cores")]
    if any(sample.behind is not None for sample in samples):
        parts += [
            charts.vitals(samples, "Memory of their own", "MiB", "memory_mib"),
            charts.vitals(samples, "Open descriptors", "descriptors", "descriptors"),
            charts.behind(samples),
        ]
    return parts


def _checks(checks: Sequence[Check]) -> str:
    rows = []
    for check in checks:
        verdict = "✓" if check.passed else f"✗ {check.wrong_count:,} wrong"
        rows.append((verdict, " · ".join([check.claim, *check.wrong]), f"{check.examined:,}"))
    return table(("", "claim", "examined"), rows, "words")


def _parameters(parameters: dict[str, Any]) -> str:
    shown = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_text(value))}</dd>"
        for name, value in parameters.items()
    )
    return f"<dl>{shown}</dl>"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {share:.2%}" for name, share in value.items())
    return str(value)
