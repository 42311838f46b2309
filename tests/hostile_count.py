"""What the hostile tests have tried, by kind; a table of it ends every run that tried something."""

from collections import Counter

import pytest

TRIED: Counter[str] = Counter()


def tried(kind: str, times: int = 1) -> None:
    TRIED[kind] += times


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TRIED:
        return
    terminalreporter.section(f"hostile clients: {sum(TRIED.values()):,} tries")
    for kind, times in sorted(TRIED.items()):
        terminalreporter.write_line(f"{times:7,}  {kind}")
