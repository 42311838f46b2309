"""What the fault rounds of a run came to: a line for each, and sums, at the end of the run."""

from dataclasses import dataclass, field

import pytest

from tests.session_checker import Verdict


@dataclass
class FaultReport:
    """`begun` and `right`: rounds. One that failed is among the first only."""

    begun: int = 0
    right: int = 0
    lines: list[str] = field(default_factory=list)
    total: Verdict = field(default_factory=Verdict)


REPORT = FaultReport()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not REPORT.begun:
        return
    terminalreporter.section(f"faults: {REPORT.begun} rounds, {REPORT.right} right")
    for line in (*REPORT.lines, f"all: {REPORT.total}"):
        terminalreporter.write_line(line)
