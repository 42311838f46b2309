"""The tables that a run of traffic ends with, on the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from millrace.traffic.check import Check
from millrace.traffic.report import Report

_LATENCY_GOOD_MS, _LATENCY_FAIR_MS = 50.0, 250.0


def counts(traffic: Report) -> str:
    """What the table does not say, in one paragraph."""
    failures = ", ".join(f"{reason} {count:,}" for reason, count in traffic.failures.items())
    return (
        f"{traffic.calls:,} calls in {traffic.seconds:.0f} s, {traffic.per_s:.0f}/s; "
        f"{traffic.writes_acknowledged:,} writes acknowledged; "
        f"failed: {failures or 'none'}; retries {traffic.retries}; "
        f"skipped {traffic.skipped} whose object was not there yet; "
        f"dropped by the generator {traffic.dropped:,}; "
        f"outstanding at most {traffic.outstanding_max}; "
        f"begun late by {traffic.late_p99_ms:.1f} ms at p99"
    )


def traffic_table(traffic: Report) -> Table:
    table = Table(
        title="Traffic: latency from the intended start, ms", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("RPC", no_wrap=True)
    for column in ("calls", "per s", "failed", "p50", "p90", "p99", "max"):
        table.add_column(column, justify="right")
    for rpc in traffic.by_rpc:
        table.add_row(
            rpc.rpc,
            f"{rpc.calls:,}",
            f"{rpc.per_s:.1f}",
            Text(str(rpc.failed or ""), style="red"),
            *(_latency(value) for value in (rpc.p50_ms, rpc.p90_ms, rpc.p99_ms, rpc.max_ms)),
        )
    return table


def _latency(value_ms: float) -> Text:
    style = "green" if value_ms <= _LATENCY_GOOD_MS else ""
    return Text(f"{value_ms:.1f}", style="yellow" if value_ms > _LATENCY_FAIR_MS else style)


def checks_table(checks: Sequence[Check]) -> Table:
    table = Table(title="Checks", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("claim")
    table.add_column("examined", justify="right")
    table.add_column("wrong", justify="right")
    for check in checks:
        mark = Text("✓", style="green") if check.passed else Text("✗", style="bold red")
        claim = "\n".join([check.claim, *check.wrong])
        table.add_row(mark, Text(claim), f"{check.examined:,}", f"{check.wrong_count or ''}")
    return table
