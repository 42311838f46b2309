"""The trace id: one id that a request leaves in every process that it passes.

32 lower-case hex digits. It comes with the gRPC metadata `traceparent` (W3C Trace Context) or is
made new and is bound to the running task: logs and the details of errors show it.

A trace is *told* when its caller set the sampled flag of `traceparent`: then each process that
the request passes logs a line. Only then it goes into the header of the records that the request
writes, so that to the log and its processors all others cost nothing.

Not: spans and their timing.
"""

import random
import re
import time
from collections.abc import Callable
from contextvars import ContextVar

TRACEPARENT = "traceparent"
_PATTERN = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_NONE = "0" * 32
_SAMPLED = 1

# Ids, not secrets: seeded by the system once, a tenth of the cost of asking it each time.
_random = random.Random()  # noqa: S311
_current: ContextVar[str] = ContextVar("trace", default="")


def current() -> str:
    """The trace of this task; empty when none is bound."""
    return _current.get()


def bind(trace: str) -> None:
    """From now on this task, and those that it starts, work for `trace`. Empty: for nobody."""
    _current.set(trace)


def begin(traceparent: str = "") -> str:
    """Bind the trace that a caller sent, or a new one when it sent none or nonsense."""
    found = _PATTERN.fullmatch(traceparent) if traceparent else None
    trace = found[1] if found and found[1] != _NONE else f"{_random.getrandbits(128):032x}"
    _current.set(trace)
    return trace


def traceparent_of(trace: str) -> str:
    """What to send on, so that the next process finds the same trace."""
    return f"00-{trace}-{_random.getrandbits(64):016x}-01"


class Telling:
    """Which traces a process tells: those that are sampled, at most so many a second."""

    def __init__(self, per_s_max: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s_max = per_s_max
        self._now_s = now_s
        self._second = 0
        self._told = 0

    def admits(self, traceparent: str) -> bool:
        """Whether to tell this one; counts it if so."""
        found = _PATTERN.fullmatch(traceparent) if traceparent else None
        if not found or found[1] == _NONE or not int(found[2], 16) & _SAMPLED:
            return False
        second = int(self._now_s())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        return self._told <= self._per_s_max
