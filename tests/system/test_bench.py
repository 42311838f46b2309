"""The benches, tiny: each runs on servers of its own, writes its rows and leaves nothing behind.

What they measure this small means nothing; that figures are whole is what is tested.
"""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.bench import BENCHES
from cli.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GRAPH = ROOT / "tests" / "data" / "twitch-pt.follows.gz"
# Rows that have no bare part.
ALONE = {
    "likes, projection alone",
    "deliveries, planning",
    "feed read peak",
    "refusals at 2x, p99",
    "refusals at 2x, p99, no priority",
    "recovery",
    "acknowledged, lost",
    "errors while switching",
}
# Rows whose best value is none at all.
ZERO = {
    "refusals at 2x, p99",
    "refusals at 2x, p99, no priority",
    "recovery",
    "acknowledged, lost",
    "errors while switching",
}
ROWS = {
    "fanout": {"deliveries"},
    "likes": {"likes"},
    "rpc": {"unary rpc"},
    "feed-read": {"feed read p50", "feed read p99"},
    "replay": {"likes", "reads while switching, p99", "errors while switching", "feed"},
    "overload": {
        "goodput at 2x",
        "answers at 2x, p99",
        "refusals at 2x, p99",
        "refusals at 2x, p99, no priority",
        "recovery",
        "acknowledged, lost",
    },
}


@pytest.mark.parametrize("name", BENCHES)
def test_bench_writes_its_rows(name: str, data_dir: Path) -> None:
    options = ("--rounds", "1", "--seconds", "0.3", "--graph", str(GRAPH), "--build", str(data_dir))
    run = subprocess.run(
        [sys.executable, "-m", "cli.main", "bench", name, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = {row["name"]: row for row in json.loads((data_dir / f"{name}.json").read_text())}
    assert rows.keys() >= ROWS[name]
    for row in rows.values():
        assert row["value"] > 0 or row["name"] in ZERO
        assert row["cpu_us_per_item"] is None or row["cpu_us_per_item"] > 0
        if row["name"] in ALONE:
            assert row["limit"] is None
            assert row["ratio"] is None
            continue
        value, limit = row["value"], row["limit"]
        expected = limit / value if row["unit"] == "ms" else value / limit
        assert row["ratio"] == pytest.approx(expected)
    assert _left(data_dir) == []


def _left(folder: Path) -> list[str]:
    """Processes that have this folder in their command or environment."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(str(folder) in word for word in words):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found
