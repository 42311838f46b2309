"""Where topics end now, for those who must know whether a view lacks something.

One look at a time and topic (but for one that is late), for all who asked before it began, and no
more often than every `log_ends_interval_ms`: a flood of forged tokens costs a waiting call each,
not a look each.
"""

from collections.abc import Mapping, Sequence

from millrace.clock import Clock
from millrace.log.port import Log
from services.batching import Batched


class LogEnds:
    """One a process."""

    def __init__(self, log: Log, clock: Clock, interval_ms: int) -> None:
        self._log = log
        self._clock = clock
        self._interval_s = interval_ms / 1000
        self._looked_s = float("-inf")
        self._looks: Batched[str, Sequence[int]] = Batched(
            self._look, keys_max=1, reads_parallel_max=1
        )

    async def of(self, topic: str) -> Sequence[int]:
        """The number of the last event by partition, not older than the question."""
        return await self._looks.get(topic) or ()

    async def _look(self, topics: Sequence[str]) -> Mapping[str, Sequence[int]]:
        early_s = self._looked_s + self._interval_s - self._clock.monotonic_s()
        if early_s > 0:
            await self._clock.sleep(early_s)
        self._looked_s = self._clock.monotonic_s()
        return {topic: await self._log.ends(topic) for topic in topics}
