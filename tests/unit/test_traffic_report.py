"""The report's arithmetic."""

from collections import Counter

from millrace.traffic.record import OK, SKIPPED, Acknowledged, Edge, Record, Sample
from millrace.traffic.report import percentiles_ms, report_of


def test_percentiles_are_values_that_a_call_had() -> None:
    latencies_s = [i / 1000 for i in range(1, 101)]
    assert percentiles_ms(latencies_s) == (50.0, 90.0, 99.0, 100.0)
    assert percentiles_ms([0.25]) == (250.0,) * 4
    assert percentiles_ms([]) == (0.0,) * 4


def test_latency_counts_from_the_intended_start() -> None:
    record = Record(seconds=2.0, samples=[Sample("GetFeed", 0.5, 1.75, OK)])
    assert report_of(record).by_rpc[0].p50_ms == 1250.0


def test_failed_calls_have_no_latency_and_skipped_ones_are_no_calls() -> None:
    samples = [
        Sample("LikeMedia", 0.0, 0.01, OK),
        Sample("LikeMedia", 0.0, 9.0, "OUTCOME_UNKNOWN"),
        Sample("LikeMedia", 0.0, 0.0, SKIPPED),
        Sample("GetFeed", 0.0, 0.02, OK),
    ]
    acknowledged = Acknowledged(edges=Counter({Edge("likes", 1, 2, live=True): 1}))
    report = report_of(Record(2.0, samples, acknowledged, retries=3))
    assert (report.calls, report.per_s, report.skipped, report.retries) == (3, 1.5, 1, 3)
    assert report.failures == {"OUTCOME_UNKNOWN": 1}
    assert report.writes_acknowledged == 1
    likes = report.by_rpc[0]
    assert (likes.rpc, likes.calls, likes.failed, likes.max_ms) == ("LikeMedia", 2, 1, 10.0)


def test_a_run_without_calls() -> None:
    report = report_of(Record())
    assert (report.calls, report.per_s, report.by_rpc) == (0, 0.0, ())
