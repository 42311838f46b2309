"""Numbers that a command was given: one line about what makes no sense, before anything begins.

Not: whole numbers, whose bounds typer holds.
"""

import math

from millrace.errors import InvalidRequest


def above_0(name: str, value: float, most: float = math.inf) -> float:
    """The value. Raises InvalidRequest, also for what is no number or has no end."""
    if not 0 < value < math.inf:
        raise InvalidRequest(f"{name} {value:g} is no number above 0")
    if value > most:
        raise InvalidRequest(f"{name} {value:g} is above {most:g}")
    return value


def not_below(name: str, value: float, least: float) -> float:
    """The same for 0, which means none, and what is at least `least`."""
    if value != 0 and not least <= value < math.inf:
        raise InvalidRequest(f"{name} {value:g} is neither 0 nor a number from {least:g} on")
    return value
