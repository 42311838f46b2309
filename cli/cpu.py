"""CPU seconds of a stack's processes, those of their own children included."""

import os

import psutil

from deploy.local.stack import LocalStack

THIS = "demo"


def cpu_seconds(stack: LocalStack) -> dict[str, float]:
    """By child of the stack, since each started; and of this process alone under `THIS`."""
    found = {THIS: _of(psutil.Process(os.getpid()), reaped=False)}
    for name, child in stack.status().children.items():
        process = child.process.alive() if child.process else None
        if process is not None:
            found[name] = sum(_of(one) for one in [process, *process.children(recursive=True)])
    return found


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What each that is in both has used in between, most first."""
    used = {
        name: round(after[name] - seconds, 2) for name, seconds in before.items() if name in after
    }
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def _of(process: psutil.Process, *, reaped: bool = True) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    own: float = times.user + times.system
    return own + (times.children_user + times.children_system if reaped else 0.0)
