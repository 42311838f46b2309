"""docs/failures.md: every process has its four states, each with a test that is there or an honest
"not tried", and every metric and log line that it names exists.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "failures.md").read_text()
PROCESSES = (
    "Kafka", "Cassandra", "PostgreSQL", "memcached", "Object store", "gRPC process", "Projector",
    "Fan-out (planner and delivery)", "Sweeper", "Client",
)  # fmt: skip
STATES = ("slow", "dead", "wrong", "old state")
NOT_TRIED = "*not tried*"
_SHORT = dict(re.findall(r"`(\w)`\s+(?:is\s+)?`(tests/[\w/]+\.py)`", DOCUMENT))
_TEST = re.compile(r"`([\w/]+(?:\.py)?(?:::\w+)+(?:\[[\w-]+\])?)`")


class Line(NamedTuple):
    """A row of a process's table."""

    process: str
    state: str
    cells: tuple[str, ...]

    @property
    def tests(self) -> list[str]:
        """As pytest names them, without or with what they are parametrised by."""
        named = _TEST.findall(self.cells[-1])
        return [
            "::".join((_SHORT.get(file, file), rest))
            for file, _, rest in (test.partition("::") for test in named)
        ]


def lines() -> list[Line]:
    found = []
    for section in DOCUMENT.split("\n## ")[1:]:
        process, *rows = section.splitlines()
        for row in rows:
            cells = tuple(cell.strip() for cell in row.strip("|").split("|"))
            if row.startswith("| ") and cells[0] != "State":
                found.append(Line(process, cells[0], cells[1:]))
    return found


@cache
def collected() -> set[str]:
    """Names of tests, each with and without its parameters."""
    files = sorted({test.split("::")[0] for line in lines() for test in line.tests})
    assert not [file for file in files if not (ROOT / file).exists()]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]
    ids = set(re.findall(r"^[\w/]+\.py::\S+$", done.stdout, re.MULTILINE))
    return ids | {one.split("[")[0] for one in ids}


def test_every_process_has_each_state() -> None:
    by_process: dict[str, list[str]] = {}
    for line in lines():
        by_process.setdefault(line.process, []).append(line.state.split(":")[0])
    assert tuple(by_process) == PROCESSES
    for process, states in by_process.items():
        assert tuple(dict.fromkeys(states)) == STATES, process


@pytest.mark.parametrize("line", lines(), ids=lambda line: f"{line.process}, {line.state}")
def test_a_row_is_whole_and_its_tests_are_there(line: Line) -> None:
    assert len(line.cells) == 4
    assert all(line.cells)
    assert bool(line.tests) != (line.cells[-1] == NOT_TRIED)
    assert [test for test in line.tests if test not in collected()] == []


def test_what_was_not_tried_is_listed() -> None:
    listed = re.findall(r"^- (.*)$", DOCUMENT.split("\n## Not tried\n")[1], re.MULTILINE)
    assert listed == [
        f"{line.process}, {line.state}" for line in lines() if line.cells[-1] == NOT_TRIED
    ]


def test_every_metric_that_is_named_exists() -> None:
    exist = set(re.findall(r'"(millrace_\w+)"', (ROOT / "millrace/observe/metrics.py").read_text()))
    named = set(re.findall(r"`(millrace_\w+)`", DOCUMENT))
    assert named
    assert not named - exist


def test_every_log_line_that_is_named_exists() -> None:
    named = {
        event
        for line in lines()
        for part in re.findall(r"log (`[^`]+`(?: and `[^`]+`)*)", line.cells[1])
        for event in re.findall(r"`([^`]+)`", part)
    }
    code = "\n".join(path.read_text() for path in (ROOT / "streams").glob("*.py"))
    told = set(re.findall(r'logger\.\w+\(\s*"([^"]+)"', code))
    assert named
    assert not named - told
