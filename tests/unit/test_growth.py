"""Growth is told from noise: medians of quarters, a tolerance, and no verdict on nothing."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.growth import Growth, growth_rows, growths
from cli.soak_run import SoakReport
from cli.vitals import Vital, pids_of_stack, taken_by
from millrace.traffic.check import Check


def vitals(
    memory: Sequence[float], *, descriptors: float = 50, behind: Sequence[int | None] = ()
) -> list[Vital]:
    """A sample every 10 s of one process and one server."""
    return [
        Vital(
            10.0 * (n + 1),
            {},
            {"grpc-0": mib, "kafka": 10 * mib},
            {"grpc-0": int(descriptors), "kafka": 100},
            behind[n] if behind else 5,
        )
        for n, mib in enumerate(memory)
    ]


def judged(samples: list[Vital]) -> dict[tuple[str, str], Growth]:
    found = growths(samples, ["grpc-0"], ["kafka"], rate=100.0)
    return {(one.process, one.what): one for one in found}


STEADY = [100.0] * 40


def test_a_steady_process_passes() -> None:
    found = judged(vitals(STEADY))
    assert all(one.passed for one in found.values())
    memory = found["grpc-0", "memory, MiB"]
    assert (memory.second, memory.last) == (100.0, 100.0)
    assert memory.allowed == pytest.approx(126.0)


def test_a_leak_is_seen_and_a_warm_up_or_a_spike_is_none() -> None:
    leak = judged(vitals([100.0 + 2 * n for n in range(40)]))
    assert not leak["grpc-0", "memory, MiB"].passed
    assert leak["kafka", "memory, MiB"].passed, "a server's memory is only shown"
    assert leak["grpc-0", "descriptors"].passed
    warm_up = judged(vitals([20.0 + 8 * n if n < 10 else 100.0 for n in range(40)]))
    assert warm_up["grpc-0", "memory, MiB"].passed
    spike = judged(vitals([900.0 if n in (33, 36) else 100.0 for n in range(40)]))
    assert spike["grpc-0", "memory, MiB"].passed


def test_lag_may_not_rise_by_more_than_comes_in_two_seconds() -> None:
    rising = judged(vitals(STEADY, behind=[20 * n for n in range(40)]))
    assert not rising["all", "lag, records"].passed
    steady = judged(vitals(STEADY, behind=[150 if n % 2 else None for n in range(40)]))
    assert steady["all", "lag, records"].passed


def test_too_few_samples_are_no_pass() -> None:
    found = judged(vitals(STEADY[:3]))
    assert not found["grpc-0", "memory, MiB"].passed
    assert "too few" in str(growth_rows(list(found.values())))


def test_a_soak_says_all_that_is_wrong() -> None:
    report = SoakReport({"soaked at": 70.0})
    # What was not looked at is no pass.
    assert report.wrong == ["too few samples to judge growth", "0 of 0 checks failed"]
    report.checks = [Check("feeds", 1)]
    report.growths = growths(vitals(STEADY), ["grpc-0"], ["kafka"], rate=100.0)
    report.audit = {"found": [{"examined": 1200, "differences": 0}]}
    assert report.wrong == []
    assert "audit: 1,200 examined, 0 differences" in report.sentences[1]
    report.growths = growths(vitals(list(range(40, 440, 10))), ["grpc-0"], [], rate=1.0)
    report.audit_code, report.restarts = 1, 2
    report.checks = [Check("feeds", 1, 1)]
    assert len(report.wrong) == 4


def test_vitals_are_read_of_processes_that_are_there(tmp_path: Path) -> None:
    taken = taken_by({"this": [os.getpid()], "gone": [2**22 + 1]})
    assert taken["this"].memory_bytes > 10 << 20
    assert taken["this"].descriptors > 2
    assert taken["gone"].memory_bytes == 0
    assert pids_of_stack(tmp_path) == {}
