"""When calls begin: at random times of a given rate (a Poisson process), now and then in bursts.

The times depend on the dice alone, never on an answer.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from millrace.errors import InvalidRequest

_BURST = re.compile(r"x(\d+(?:\.\d+)?) for (\d+(?:\.\d+)?)s every (\d+(?:\.\d+)?)s")


@dataclass(frozen=True, slots=True)
class Burst:
    """`times` the rate for `seconds`, in the middle of each `every_s`."""

    times: float
    seconds: float
    every_s: float

    @property
    def begin_s(self) -> float:
        """Of the first one."""
        return (self.every_s - self.seconds) / 2

    def phase(self, at_s: float) -> tuple[float, float]:
        """(times the rate, seconds until that changes)"""
        into_s = (at_s - self.begin_s) % self.every_s
        if into_s < self.seconds:
            return self.times, self.seconds - into_s
        return 1.0, self.every_s - into_s


def burst_of(text: str) -> Burst:
    """`x5 for 10s every 60s`. Raises InvalidRequest."""
    found = _BURST.fullmatch(text.strip())
    burst = Burst(*map(float, found.groups())) if found else None
    if burst is None or not burst.times or not 0 < burst.seconds < burst.every_s:
        raise InvalidRequest(f"burst {text!r} is not like 'x5 for 10s every 60s'")
    return burst


def arrivals(
    dice: random.Random, rate: float, seconds: float, burst: Burst | None = None
) -> Iterator[float]:
    """The times at which calls begin, upwards, below `seconds`. `rate`: calls a second outside of
    bursts.
    """
    at_s = 0.0
    while True:
        left = dice.expovariate(1.0)
        # So many calls are due until the next; a burst brings them sooner.
        while burst is not None:
            times, until_s = burst.phase(at_s)
            if left <= until_s * rate * times:
                rate_now = rate * times
                break
            left -= until_s * rate * times
            # One step of a float further, lest a border be met again.
            at_s += until_s + 1e-9
        else:
            rate_now = rate
        at_s += left / rate_now
        if at_s >= seconds:
            return
        yield at_s
