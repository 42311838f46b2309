"""The report's arithmetic, and that histograms of several processes add up."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.traffic.latencies import Latencies
from millrace.traffic.record import Acknowledged, Doubt, Edge, Record, Remark, Upload
from millrace.traffic.report import report_of
from millrace.traffic.tally import DROPPED, OK, SKIPPED, WINDOWS_MAX, Tally, window_s_of

Call = tuple[str, float, float, str]
calls = st.lists(
    st.tuples(
        st.sampled_from(["LikeMedia", "GetFeed"]),
        st.floats(0, 20),
        st.floats(0, 3),
        st.sampled_from([OK, SKIPPED, DROPPED, "OVERLOADED"]),
    ),
    max_size=40,
)


def record_of(*calls: Call, seconds: float = 2.0) -> Record:
    """(RPC, intended, ended, outcome) of each."""
    record = Record(seconds)
    for rpc, intended_s, ended_s, outcome in calls:
        record.tally.add(rpc, intended_s, ended_s, outcome, refused=outcome == "OVERLOADED")
    return record


def test_percentiles_are_those_of_the_calls_to_one_percent() -> None:
    latencies = Latencies.of(i / 1000 for i in range(1, 101))
    found = [latencies.ms(percentile) for percentile in (50, 90, 99, 100)]
    assert found == pytest.approx([50.0, 90.0, 99.0, 100.0], rel=0.011)
    assert Latencies().ms(99) == 0.0
    assert latencies.within(50.0) == pytest.approx(50, abs=1)
    assert (latencies.within(0.5), latencies.within(1_000), Latencies().within(1)) == (0, 100, 0)


def test_latency_counts_from_the_intended_start() -> None:
    report = report_of(record_of(("GetFeed", 0.5, 1.75, OK)))
    assert report.by_rpc[0].p50_ms == pytest.approx(1250.0, rel=0.01)


def test_failed_calls_have_no_latency_and_skipped_or_dropped_ones_are_no_calls() -> None:
    record = record_of(
        ("LikeMedia", 0.0, 0.01, OK),
        ("LikeMedia", 0.0, 9.0, "OUTCOME_UNKNOWN"),
        ("LikeMedia", 1.0, 9.0, "OVERLOADED"),
        ("LikeMedia", 0.0, 0.0, SKIPPED),
        ("LikeMedia", 0.0, 0.0, DROPPED),
        ("GetFeed", 0.0, 0.02, OK),
    )
    record.acknowledged.wrote(Edge("likes", 1, 2, live=True))
    record.retries = 3
    report = report_of(record)
    assert (report.calls, report.per_s, report.retries) == (4, 2.0, 3)
    assert (report.skipped, report.dropped, report.refused) == (1, 1, 1)
    assert report.failures == {"OUTCOME_UNKNOWN": 1, "OVERLOADED": 1}
    assert report.writes_acknowledged == 1
    likes = report.by_rpc[0]
    assert (likes.rpc, likes.calls, likes.failed) == ("LikeMedia", 3, 2)
    assert likes.max_ms == pytest.approx(10.0, rel=0.01)
    first, second = report.windows
    assert (first.offered_per_s, first.ok_per_s, first.dropped_per_s) == (4.0, 2.0, 1.0)
    assert (second.refused_per_s, second.errors_per_s, second.p99_ms) == (1.0, 0.0, {})


def test_a_run_without_calls() -> None:
    report = report_of(Record())
    assert (report.calls, report.per_s, report.by_rpc, report.windows) == (0, 0.0, (), ())


@pytest.mark.parametrize("seconds", [1.0, 119.0, 1200.0, 86_400.0])
def test_windows_are_bounded(seconds: float) -> None:
    assert seconds / window_s_of(seconds) <= WINDOWS_MAX


@settings(deadline=None)
@given(one=calls, other=calls)
def test_processes_add_up_to_what_one_would_have_counted(
    one: list[Call], other: list[Call]
) -> None:
    sent = json.loads(json.dumps(record_of(*other).as_json()))
    added = record_of(*one)
    added.add_all(Record.from_json(sent))
    together, apart = report_of(record_of(*one, *other)), report_of(added)
    assert sorted(together.by_rpc, key=str) == sorted(apart.by_rpc, key=str)
    assert (together.failures, together.windows) == (apart.failures, apart.windows)


def test_what_was_acknowledged_comes_back_from_json() -> None:
    acknowledged = Acknowledged(
        uploads=[Upload(1, 2, "id", b"\xff\x00", "sea", 9)],
        remarks=[Remark(1, 3, 2, "id", "nice")],
        registered={1: "ana"},
        profiles=[(1, "hello")],
        edges=Counter({Edge("likes", 1, 2, live=True): 2}),
        standing={("likes", 1, 2): True},
        doubt=Doubt({("follows", 1, 4)}, {2}, {1}),
    )
    assert Acknowledged.from_json(json.loads(json.dumps(acknowledged.as_json()))) == acknowledged


def test_what_stands_is_what_was_acknowledged_last() -> None:
    acknowledged = Acknowledged()
    acknowledged.wrote(Edge("likes", 1, 2, live=True))
    acknowledged.wrote(Edge("likes", 1, 2, live=False))
    assert acknowledged.standing == {("likes", 1, 2): False}
    assert acknowledged.writes == 2


def test_the_total_and_the_late_ones_are_kept() -> None:
    tally = Tally()
    tally.add("GetFeed", 0.0, 0.1, OK)
    tally.add("GetFeed", 0.0, 0.0, DROPPED)
    tally.late.add(0.2)
    again = Tally.from_json(json.loads(json.dumps(tally.as_json())))
    assert (again.ended, again.outcomes[DROPPED]) == (1, 1)
    assert again.late.ms(99) == pytest.approx(200, rel=0.01)
