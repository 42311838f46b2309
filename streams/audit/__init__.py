"""The audit: what is served beside what the log says, by an oracle that shares no code with it.

It fixes a position, waits until the views cover it, lets what later events touched be either
way, and looks again before it tells a difference.
"""

from streams.audit.audit import CHECKS, Audit, Told
from streams.audit.difference import Difference, Finding
from streams.audit.look import Bounds, Sources
from streams.audit.served import Served, ServedByViews

__all__ = [
    "CHECKS",
    "Audit",
    "Bounds",
    "Difference",
    "Finding",
    "Served",
    "ServedByViews",
    "Sources",
    "Told",
]
