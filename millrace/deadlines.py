"""Time limits that cost next to nothing while they hold.

    with deadlines.within(5.0):
        await …                     # TimeoutError when it takes longer

As `asyncio.timeout`, which has a timer and two coroutines each time: three a call took a tenth of
a gRPC process's CPU time. Here one timer looks at all limits every `TICK_S`, so a limit ends up
to so much late.

Not: anything finer than that, or outside of a task.
"""

import asyncio
import math
from functools import cached_property
from types import TracebackType
from typing import Self

TICK_S = 0.02


class Deadlines:
    """Of one event loop, the one that first asks. It wakes up only while there is a limit."""

    def __init__(self) -> None:
        self._held: dict[Limit, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    # Kept, since to ask for the running loop is a system call (CPython 3.11), a dozen a request.
    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def within(self, seconds: float) -> "Limit":
        return Limit(self, self.loop.time() + seconds)

    def at(self, when_s: float) -> "Limit":
        """By the loop's clock; infinity is no limit."""
        return Limit(self, when_s)

    def hold(self, limit: "Limit") -> None:
        self._held[limit] = None
        if self._timer is None:
            self._look_later()

    def let_go(self, limit: "Limit") -> None:
        self._held.pop(limit, None)

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(TICK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self.loop.time()
        for limit in [limit for limit in self._held if limit.until_s <= now_s]:
            limit.end()
        if self._held:
            self._look_later()


class Limit:
    """Made by `Deadlines`, entered once, by the task that it limits."""

    __slots__ = ("_all", "_before", "_ended", "_task", "until_s")

    def __init__(self, every: Deadlines, until_s: float) -> None:
        self._all = every
        self.until_s = until_s
        self._ended = False

    def end(self) -> None:
        """Stop the task, as if the time were over."""
        self._all.let_go(self)
        self._ended = True
        self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._all.loop)
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._before = task.cancelling()
        if self.until_s < math.inf:
            self._all.hold(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._all.let_go(self)
        # Somebody else may have cancelled the task as well: then it is his.
        if self._ended and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
