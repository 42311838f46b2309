"""Mixes and arrivals: what can be said, what is refused, what proportions and rates come out."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import InvalidRequest
from millrace.traffic.arrivals import Burst, arrivals, burst_of
from millrace.traffic.mix import NAMES, READS, TALK, Rpc, mix_of


def test_the_default_has_the_proportions_of_the_talk() -> None:
    assert TALK.weights[Rpc.LIKE] / TALK.weights[Rpc.UPLOAD] == 40
    assert sum(TALK.shares.values()) == pytest.approx(1.0)
    assert next(iter(TALK.shares)) is Rpc.LIKE


@pytest.mark.parametrize("name", ["talk", "reads", "likes"])
def test_mixes_have_names(name: str) -> None:
    assert mix_of(name).name == name


def test_the_document_has_the_mixes_as_they_are() -> None:
    document = (Path(__file__).parents[2] / "docs" / "traffic.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|(.*)\|$", document, re.MULTILINE)
    assert {name: rpc for name, rpc, _ in rows} == {name: str(rpc) for name, rpc in NAMES.items()}
    for column, mix in enumerate(("talk", "reads", "likes")):
        told = {NAMES[name]: weights.split("|")[column].strip() for name, _, weights in rows}
        weights = {rpc: float(weight) for rpc, weight in told.items() if weight}
        assert weights == mix_of(mix).weights


@pytest.mark.parametrize(
    "text", ["nonsense", "", "likes,", "likes=x", "likes=-1", "likes=nan", "likes=0", "like=1"]
)
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        mix_of(text)


def test_the_refusal_lists_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match="talk, reads, likes") as refused:
        mix_of("likes=1,nonsense=2")
    assert all(name in str(refused.value) for name in NAMES)
    assert "\n" not in str(refused.value)


@settings(deadline=None)
@given(reads=st.floats(0, 100))
def test_reads_come_in_the_ratio_asked_for(reads: float) -> None:
    weights = TALK.with_reads(reads).weights
    of_reads = sum(weight for rpc, weight in weights.items() if rpc in READS)
    of_writes = sum(weight for rpc, weight in weights.items() if rpc not in READS)
    assert of_reads / of_writes == pytest.approx(reads)
    assert weights[Rpc.LIKE] / weights[Rpc.UPLOAD] == 40


def test_reads_of_a_mix_without_reads_or_writes_are_refused() -> None:
    for text in ("likes", "feed=1"):
        with pytest.raises(InvalidRequest):
            mix_of(text).with_reads(2.0)


def test_calls_come_at_the_rate_asked_for() -> None:
    times = list(arrivals(random.Random(1), 200.0, 50.0))
    assert times == sorted(times)
    assert times[-1] < 50.0
    assert len(times) == pytest.approx(10_000, rel=0.05)


def test_a_burst_is_in_the_middle_of_its_period() -> None:
    burst = burst_of("x5 for 10s every 60s")
    assert burst == Burst(5.0, 10.0, 60.0)
    times = list(arrivals(random.Random(1), 100.0, 120.0, burst))
    within = [at_s for at_s in times if 25.0 <= at_s % 60.0 < 35.0]
    assert len(within) == pytest.approx(2 * 10 * 500, rel=0.05)
    assert len(times) - len(within) == pytest.approx(2 * 50 * 100, rel=0.05)


@pytest.mark.parametrize(
    "text", ["x5", "5 for 10s every 60s", "x0 for 10s every 60s", "x5 for 60s every 60s", ""]
)
def test_what_is_no_burst_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="x5 for 10s every 60s"):
        burst_of(text)
