"""The page of a run: all in one file, nothing from the network, and what was said in it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from cli.traffic import seconds_of
from cli.traffic_page import page_of
from cli.traffic_report import TrafficReport
from cli.traffic_view import TrafficView
from cli.traffic_workers import Seen
from cli.vitals import Vital
from millrace.errors import InvalidRequest
from millrace.traffic.check import Check
from millrace.traffic.record import Record
from millrace.traffic.report import report_of
from millrace.traffic.tally import OK


def report() -> TrafficReport:
    record = Record(6.0)
    for second in range(6):
        record.tally.add("LikeMedia", second, second + 0.02, OK)
        record.tally.add("GetFeed", second, second + 0.5, "OVERLOADED", refused=True)
    made = TrafficReport({"rate": 2.0, "shares": {"LikeMedia": 0.5}})
    made.traffic = report_of(record)
    made.checks = [Check("likes <b>are</b> there", 6), Check("feeds", 2, 1, ["feed of 1: none"])]
    made.vitals = [Vital(2.0 * n, {"grpc-0": 0.5}, {"grpc-0": 90.0}, {"grpc-0": 40}, n) for n in
                   range(4)]  # fmt: skip
    return made


def test_the_page_needs_nothing_else() -> None:
    page = page_of(report())
    assert not re.search(r"(src|href)=|@import|url\(|<script|<!--", page)
    assert set(re.findall(r"https?://[^\"' <>)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert 'name="viewport"' in page
    HTMLParser().feed(page)


def test_the_page_says_what_came_and_what_is_wrong() -> None:
    page = page_of(report(), "Soak", ["<h2>More</h2>"])
    assert "1 of 2 checks failed" in page
    assert "likes &lt;b&gt;are&lt;/b&gt; there" in page
    assert "feed of 1: none" in page
    for said in ("Soak", "OVERLOADED", "LikeMedia", "More", "Lag of all processors"):
        assert said in page
    # Rates, p50, p99, errors, cores, memory, descriptors, lag.
    assert page.count("<svg") == 8


def test_a_run_without_calls_has_a_page() -> None:
    empty = TrafficReport({})
    empty.traffic = report_of(Record(1.0))
    assert "<svg" in page_of(empty)


def test_figures_go_into_a_file(tmp_path: Path) -> None:
    report().write(tmp_path / "deep" / "figures.json")
    found = json.loads((tmp_path / "deep" / "figures.json").read_text())
    assert found["passed"] is False
    assert found["traffic"]["refused"] == 6
    assert len(found["traffic"]["windows"]) == 6


def test_the_view_shows_the_newest_window_on_a_terminal() -> None:
    console = Console(force_terminal=True, width=100, record=True)
    seen = Seen(under_way=3)
    seen.outcomes[OK] = 7
    seen.newest.add("LikeMedia", 0.0, 0.02, OK)
    with TrafficView(console, 0.0, 10.0) as view:
        view.seen(seen)
    shown = console.export_text()
    for said in ("7 answered", "3 under way", "LikeMedia", "20."):
        assert said in shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("2h", 7_200.0)]
)
def test_durations_are_said_with_a_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1d", "soon"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        seconds_of(text)
