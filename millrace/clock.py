"""Time as an argument, so that a test or the simulator can own it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC. May go back, as wall clocks do."""

    def monotonic_s(self) -> float:
        """Seconds from an unknown start. Never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Let others run for about so long."""


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return self._monotonic_ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Time passes at once; other tasks get their turn."""
        self.advance(max(round(seconds * 1000), 1))
        await asyncio.sleep(0)

    def advance(self, milliseconds: int) -> None:
        self._now_ms += milliseconds
        self._monotonic_ms += milliseconds

    def jump(self, milliseconds: int) -> None:
        """Move the wall clock alone, either way."""
        self._now_ms += milliseconds
