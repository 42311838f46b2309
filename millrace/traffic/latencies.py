"""Latencies of many calls in little room: an HDR histogram, exact to one percent.

Those of several processes are added up without loss, as averages of percentiles are not.
"""

from collections.abc import Iterable
from typing import Self

from hdrh.histogram import HdrHistogram

# In microseconds, from 1 to 20 minutes; a longer one counts as 20 minutes.
_MAX_US = 20 * 60 * 1_000_000
_DIGITS = 2


class Latencies:
    """About 25 KB, however many calls."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _MAX_US, _DIGITS)

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        found = cls()
        for one in seconds:
            found.add(one)
        return found

    def __len__(self) -> int:
        return int(self._histogram.total_count)

    def add(self, seconds: float) -> None:
        self._histogram.record_value(min(max(int(seconds * 1e6), 1), _MAX_US))

    def add_all(self, other: "Latencies") -> None:
        self._histogram.add(other._histogram)

    def ms(self, percentile: float) -> float:
        """So many percent of the calls took at most this; 0 where there were none."""
        if not len(self):
            return 0.0
        return round(float(self._histogram.get_value_at_percentile(percentile)) / 1000, 3)

    def within(self, ms: float) -> int:
        """How many took at most so long."""
        histogram = self._histogram
        return sum(
            item.count_added_in_this_iter_step
            for item in histogram.get_recorded_iterator()
            if item.value_iterated_to <= ms * 1000
        )

    def encode(self) -> str:
        return bytes(self._histogram.encode()).decode()

    def add_encoded(self, text: str) -> None:
        """What `encode` of another gave."""
        self._histogram.decode_and_add(text.encode())
