"""Figures of a run: by RPC and by time counts, rates, latencies from the intended start, failures.

Percentiles are over successful calls, in milliseconds, exact to one percent. Calls that were
skipped or dropped are counted and have no latency.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from millrace.traffic.record import Record
from millrace.traffic.tally import DROPPED, OK, SKIPPED, Cell, Tally


@dataclass(frozen=True, slots=True)
class RpcFigures:
    """One RPC of a run. Latencies are 0 when no call succeeded."""

    rpc: str
    calls: int
    per_s: float
    failed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """The calls that were to start in one stretch of the run, which begins at `at_s`. `offered`:
    dropped ones included; `failures_per_s` by reason; `p50_ms` and `p99_ms` by RPC, where one
    succeeded.
    """

    at_s: float
    offered_per_s: float
    ok_per_s: float
    refused_per_s: float
    errors_per_s: float
    dropped_per_s: float
    failures_per_s: Mapping[str, float]
    p50_ms: Mapping[str, float]
    p99_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """A run as a whole. `failures`: how often each error's reason came; `refused`: how many of
    them said that too much was asked. `late_p99_ms`: how late the generator began calls.
    """

    seconds: float
    calls: int
    per_s: float
    writes_acknowledged: int
    retries: int
    skipped: int
    dropped: int
    refused: int
    outstanding_max: int
    late_p99_ms: float
    failures: dict[str, int]
    by_rpc: tuple[RpcFigures, ...]
    window_s: float
    windows: tuple[WindowFigures, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def report_of(record: Record) -> Report:
    tally = record.tally
    total = tally.sum()
    rpcs = tally.rpcs
    return Report(
        seconds=record.seconds,
        calls=total.made,
        per_s=_per_s(total.made, record.seconds),
        writes_acknowledged=record.acknowledged.writes,
        retries=record.retries,
        skipped=total.outcomes[SKIPPED],
        dropped=total.outcomes[DROPPED],
        refused=total.refused,
        outstanding_max=record.outstanding_max,
        late_p99_ms=tally.late.ms(99),
        failures=dict(_failures(total).most_common()),
        by_rpc=tuple(_of_rpc(rpc, tally.sum(rpc), record.seconds) for rpc in rpcs),
        window_s=tally.window_s,
        windows=tuple(_of_window(tally, window, rpcs) for window in range(tally.windows)),
    )


def _of_rpc(rpc: str, cell: Cell, seconds: float) -> RpcFigures:
    return RpcFigures(
        rpc=rpc,
        calls=cell.made,
        per_s=_per_s(cell.made, seconds),
        failed=cell.failed,
        p50_ms=cell.latencies.ms(50),
        p90_ms=cell.latencies.ms(90),
        p99_ms=cell.latencies.ms(99),
        max_ms=cell.latencies.ms(100),
    )


def _of_window(tally: Tally, window: int, rpcs: Sequence[str]) -> WindowFigures:
    total, seconds = tally.sum(window=window), tally.window_s
    cells = {rpc: tally.sum(rpc, window) for rpc in rpcs}
    answered = {rpc: cell.latencies for rpc, cell in cells.items() if cell.ok}
    dropped = total.outcomes[DROPPED]
    return WindowFigures(
        at_s=round(window * seconds, 3),
        offered_per_s=_per_s(total.made + dropped, seconds),
        ok_per_s=_per_s(total.ok, seconds),
        refused_per_s=_per_s(total.refused, seconds),
        errors_per_s=_per_s(total.failed - total.refused, seconds),
        dropped_per_s=_per_s(dropped, seconds),
        failures_per_s={why: _per_s(count, seconds) for why, count in _failures(total).items()},
        p50_ms={rpc: latencies.ms(50) for rpc, latencies in answered.items()},
        p99_ms={rpc: latencies.ms(99) for rpc, latencies in answered.items()},
    )


def _failures(cell: Cell) -> Counter[str]:
    """By reason."""
    left_out = (OK, SKIPPED, DROPPED)
    return Counter({why: count for why, count in cell.outcomes.items() if why not in left_out})


def _per_s(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds else 0.0
