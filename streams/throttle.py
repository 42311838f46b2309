"""Keeps work at a rate, so that a replay leaves the servers to the traffic."""

from millrace.clock import Clock

# A pause of its own for less than this is not worth a turn of the loop.
_PAUSE_MIN_S = 0.005


class Throttle:
    """At most `per_s` items a second, 0 for no bound; what was not used is not saved up."""

    def __init__(self, clock: Clock, per_s: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._free_s = clock.monotonic_s()

    async def spent(self, items: int) -> None:
        """So many were done: returns when the next ones may begin."""
        if not self._per_s:
            return
        now_s = self._clock.monotonic_s()
        self._free_s = max(self._free_s, now_s - _PAUSE_MIN_S) + items / self._per_s
        if self._free_s - now_s >= _PAUSE_MIN_S:
            await self._clock.sleep(self._free_s - now_s)
