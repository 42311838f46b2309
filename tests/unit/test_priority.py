"""A process that asks for priority, in a process of its own, since it cannot be given back."""

import os
import subprocess
import sys

import pytest

from services.priority import take_first_turn, take_priority

ASK = """
import os
from pathlib import Path
from services.priority import take_priority
allowed = take_priority(%d)
session = Path("/proc/self/autogroup")
print(allowed, os.getpriority(os.PRIO_PROCESS, 0), session.read_text() if session.exists() else "")
"""


def asked(nice: int, *, own_session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK % nice],
        start_new_session=own_session,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_it_and_its_session_get_the_niceness_that_was_asked() -> None:
    nice = os.getpriority(os.PRIO_PROCESS, 0) + 1
    said, got, *session = asked(nice, own_session=True)
    assert (said, got) == ("True", str(nice))
    assert session[-2:] in ([], ["nice", str(nice)])


def test_a_session_of_others_is_left_as_it_is() -> None:
    before = asked(0, own_session=False)
    said, got, *session = asked(os.getpriority(os.PRIO_PROCESS, 0) + 2, own_session=False)
    assert (said, int(got)) == ("True", int(before[1]) + 2)
    assert session == before[2:]


def test_0_asks_for_nothing() -> None:
    assert asked(0, own_session=True)[:2] == ["True", str(os.getpriority(os.PRIO_PROCESS, 0))]


def test_what_the_system_does_not_allow_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", denied)
    assert not take_priority(-15)


def test_a_turn_before_others_is_had_or_refused_in_words() -> None:
    code = (
        "import os\nfrom services.priority import take_first_turn\n"
        "print(take_first_turn(), os.sched_getscheduler(0) == os.SCHED_RR)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed, has = done.stdout.split()
    assert allowed == has


def test_no_turn_before_others_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", denied)
    assert not take_first_turn()
