"""An event loop without threads, sockets or time of its own, that runs what it is told to run.

What is ready waits in lanes: all that a task and its children do is in one lane, in order, and
lanes run in the order that the caller chooses. Time stands still until `advance`. So a history of
the real coroutines depends on nothing but the choices of the caller.

    loop = SimulatedLoop()
    with loop.running():
        loop.start(lane, coroutine)
        loop.turns(lane, 5)     # five callbacks of it; from here on it may never go on
"""

import asyncio
import heapq
from asyncio import Handle, TimerHandle, events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from types import coroutine
from typing import Any

TURNS_MAX = 100_000

_lane: ContextVar["Lane"] = ContextVar("lane")


@dataclass(eq=False, slots=True)
class Lane:
    """`of`: the process whose part this is; `ended` hears of its end and of what it raised."""

    name: str
    of: Any = None
    ready: deque[Handle] = field(default_factory=deque)
    tasks: dict["asyncio.Task[Any]", None] = field(default_factory=dict)


class Stuck(AssertionError):
    """A lane that never comes to rest."""


@coroutine
def turn() -> Generator[None, None, None]:
    """The place where others may go on, or this one may be killed."""
    yield


class SimulatedLoop:
    """Just what tasks, futures, locks and timeouts ask of a loop."""

    def __init__(self) -> None:
        # For asyncio, which asks less of a loop than the type says.
        self._as_loop: Any = self
        self._now_s = 0.0
        self._timers: list[tuple[float, int, TimerHandle, Lane]] = []
        self._timer_number = 0
        self.handles = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        events._set_running_loop(self._as_loop)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def start(
        self, lane: Lane, work: Coroutine[Any, Any, Any], ended: Callable[[Any], None] | None = None
    ) -> "asyncio.Task[Any]":
        """`ended` is called with the task at its end."""
        context = copy_context()
        context.run(_lane.set, lane)
        task: asyncio.Task[Any] = context.run(self.create_task, work)
        if ended is not None:
            task.add_done_callback(ended, context=context)
        return task

    def turns(self, lane: Lane, most: int) -> int:
        """Run up to so many callbacks of a lane; returns how many there were."""
        ready, done = lane.ready, 0
        while ready and done < most:
            done += 1
            handle = ready.popleft()
            if not handle._cancelled:
                handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
        self.handles += done
        return done

    def finish(self, lane: Lane, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of what waits for no time and for no other lane."""
        task = self.start(lane, work)
        while not task.done():
            if not self.turns(lane, TURNS_MAX):
                raise Stuck(f"{lane.name} waits for somebody")
        return task.result()

    def kill(self, lanes: Iterator[Lane] | list[Lane]) -> None:
        """Nothing of them runs any more. What they still say on their way out must reach nobody."""
        lanes = list(lanes)
        for lane in lanes:
            for task in list(lane.tasks):
                task.cancel()
        # Locks and queues of the dead wake each other up.
        for _ in range(TURNS_MAX):
            if not sum([self.turns(lane, TURNS_MAX) for lane in lanes]):
                break
        for lane in lanes:
            lane.ready.clear()

    def advance(self, seconds: float) -> None:
        """Time passes; what waited for it is ready."""
        self._now_s += seconds
        while self._timers and self._timers[0][0] <= self._now_s:
            _, _, timer, lane = heapq.heappop(self._timers)
            if not timer._cancelled:
                lane.ready.append(timer)

    # What asyncio asks for.

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        context = context or copy_context()
        lane = context[_lane]
        task = asyncio.Task(coro, loop=self._as_loop, name=name, context=context)
        lane.tasks[task] = None
        task.add_done_callback(lambda done: lane.tasks.pop(done, None) and None, context=context)
        return task

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        context = context or copy_context()
        handle = Handle(callback, args, self._as_loop, context)
        context[_lane].ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        context = context or copy_context()
        timer = TimerHandle(when, callback, args, self._as_loop, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, timer, context[_lane]))
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """It is passed over when its time has come."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a task raised is looked at by whoever started it."""
