"""The trace id: one id that a request leaves in every process that it passes.

32 lower-case hex digits. It comes with the gRPC metadata `traceparent` (W3C Trace Context) or is
made new, is bound to the running task, goes into the header of each record the request writes
and is bound again by whoever processes the record. Logs and INTERNAL errors show it.

Not: spans and their timing.
"""

import random
import re
from contextvars import ContextVar

TRACEPARENT = "traceparent"
_PATTERN = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_NONE = "0" * 32

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
