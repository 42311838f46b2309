"""Figures of a run: by RPC counts, rates, latencies from the intended start, and what failed.

Percentiles are nearest-rank over successful calls, in milliseconds: a value that a call really
had. Skipped calls are counted and have no latency.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from millrace.traffic.record import OK, SKIPPED, Record, Sample

PERCENTILES = (50.0, 90.0, 99.0, 100.0)


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
class Report:
    """A run as a whole. `failures`: how often each error's reason came."""

    seconds: float
    calls: int
    per_s: float
    writes_acknowledged: int
    retries: int
    skipped: int
    outstanding_max: int
    failures: dict[str, int]
    by_rpc: tuple[RpcFigures, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def report_of(record: Record) -> Report:
    samples: dict[str, list[Sample]] = defaultdict(list)
    outcomes: Counter[str] = Counter()
    for sample in record.samples:
        outcomes[sample.outcome] += 1
        if sample.outcome != SKIPPED:
            samples[sample.rpc].append(sample)
    skipped = outcomes.pop(SKIPPED, 0)
    calls = outcomes.total()
    outcomes.pop(OK, None)
    by_rpc = (_figures(rpc, group, record.seconds) for rpc, group in samples.items())
    return Report(
        seconds=record.seconds,
        calls=calls,
        per_s=_per_s(calls, record.seconds),
        writes_acknowledged=record.acknowledged.writes,
        retries=record.retries,
        skipped=skipped,
        outstanding_max=record.outstanding_max,
        failures=dict(outcomes.most_common()),
        by_rpc=tuple(sorted(by_rpc, key=lambda figures: -figures.calls)),
    )


def percentiles_ms(latencies_s: Sequence[float]) -> tuple[float, ...]:
    """At `PERCENTILES`, in milliseconds; zeros for nothing."""
    if not latencies_s:
        return (0.0,) * len(PERCENTILES)
    found = np.percentile(np.asarray(latencies_s), PERCENTILES, method="inverted_cdf")
    return tuple(round(float(value) * 1000, 3) for value in found)


def _figures(rpc: str, samples: Sequence[Sample], seconds: float) -> RpcFigures:
    good = [sample.ended_s - sample.intended_s for sample in samples if sample.outcome == OK]
    p50, p90, p99, longest = percentiles_ms(good)
    return RpcFigures(
        rpc=rpc,
        calls=len(samples),
        per_s=_per_s(len(samples), seconds),
        failed=len(samples) - len(good),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        max_ms=longest,
    )


def _per_s(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds else 0.0
