"""CPU time of the bench, of its servers and of every other process that it started."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import psutil


def spent_us(names: Mapping[int, str]) -> dict[str, float]:
    """User and system time so far, by process; `names`: direct children by pid.

    A child that has ended counts for its parent, so the sum never falls: between two calls it
    grows by what was spent in between.
    """
    own = psutil.Process()
    spent = {"bench": _of(own)}
    for child in own.children():
        name = names.get(child.pid, "other")
        spent[name] = spent.get(name, 0.0) + _of_tree(child)
    return spent


def waited_s(pid: int) -> float:
    """How long the main thread of a process was ready to run so far, and had no core; 0 where the
    system does not tell.
    """
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _of_tree(process: psutil.Process) -> float:
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(map(_of, family))


def _of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    seconds = times.user + times.system + times.children_user + times.children_system
    return float(seconds * 1_000_000)
