"""Slows a replay, so that it leaves the servers to the traffic."""

from millrace.clock import Clock

# A pause of its own for less than this is not worth a turn of the loop.
_PAUSE_MIN_S = 0.005
# After one long statement, as when a key is made, nobody waits as long again.
_WORK_MAX_S = 10.0
# Of items at the rate: what is done in one go.
_BATCH_S = 1.0


class Throttle:
    """At most `per_s` items a second, 0 for no bound, and at work for at most `share` of the time.

    What was not used is not saved up. The share is of time that passes and not of this process's
    CPU, since most of the work is the servers': where they are slow, the pauses are longer, too.
    """

    def __init__(self, clock: Clock, per_s: float, share: float = 1.0) -> None:
        self._clock = clock
        self._per_s = per_s
        self._pause_of_work = 1 / share - 1
        self._free_s = self._working_s = clock.monotonic_s()
        self._owed_s = 0.0

    def batch(self, items_max: int) -> int:
        """So many at once that the rate is kept evenly, not in bursts."""
        return min(items_max, max(int(self._per_s * _BATCH_S), 1)) if self._per_s else items_max

    async def spent(self, items: int) -> None:
        """So many were done since the last return: returns when the next ones may begin."""
        now_s = self._clock.monotonic_s()
        self._owed_s += min(now_s - self._working_s, _WORK_MAX_S) * self._pause_of_work
        pause_s = self._owed_s
        if self._per_s:
            self._free_s = max(self._free_s, self._working_s) + items / self._per_s
            pause_s = max(pause_s, self._free_s - now_s)
        if pause_s >= _PAUSE_MIN_S:
            await self._clock.sleep(pause_s)
            self._owed_s = 0.0
        self._working_s = self._clock.monotonic_s()
