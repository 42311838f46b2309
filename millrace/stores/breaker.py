"""When to stop asking a server that does not answer."""

from millrace.clock import Clock


class Breaker:
    """After `failures_max` failures in a row the server is passed over for `pause_s`; then one
    call may try, and the others wait for another pause or its success.
    """

    def __init__(self, clock: Clock, *, failures_max: int, pause_s: float) -> None:
        self._clock = clock
        self._failures_max = failures_max
        self._pause_s = pause_s
        self._failures = 0
        self._until_s = 0.0

    @property
    def open(self) -> bool:
        return self._failures >= self._failures_max

    def admits(self) -> bool:
        """Whether to ask now. True to one caller a pause while it is open."""
        if self.open:
            if self._clock.monotonic_s() < self._until_s:
                return False
            self._pause()
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        if self.open:
            self._pause()

    def _pause(self) -> None:
        self._until_s = self._clock.monotonic_s() + self._pause_s
