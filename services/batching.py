"""Concurrent reads by key become few reads of many keys.

While `reads_parallel_max` reads are under way, and for a pause after one of several keys began,
those who ask are gathered for the next one: the busier the process, the longer the pause and the
larger the batches (millrace/pause.py), and who asks alone waits for nothing. Nobody joins a read
that started before he asked, so an answer is never older than the question.

A read that takes longer than `LATE_S` is waited for by those who asked for it and by nobody else:
one lost connection must not stop a process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Generic, TypeVar

from millrace.pause import pause_after

LATE_S = 0.1

K = TypeVar("K")
V = TypeVar("V")


class Batched(Generic[K, V]):
    """`read` answers at most `keys_max` keys and leaves out what is not there. Where so many wait,
    the next read does not.
    """

    def __init__(
        self,
        read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        *,
        keys_max: int,
        reads_parallel_max: int = 1,
        pause_s: float = 0.0,
    ) -> None:
        self._read = read
        self._keys_max = keys_max
        self._parallel_max = reads_parallel_max
        self._pause_s = pause_s
        self._next_s = float("-inf")
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._scheduled: asyncio.Handle | None = None
        self._soon = False

    # Kept, since to ask for it is a system call (CPython 3.11): four a read.
    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def get(self, key: K) -> V | None:
        """None for what is not there. Raises what `read` raises."""
        answer: asyncio.Future[V | None] = self._loop.create_future()
        self._waiting.setdefault(key, []).append(answer)
        self._schedule()
        return await answer

    def _schedule(self) -> None:
        """Read at the end of this turn of the loop, when all who ask in it have asked, or when
        the pause is over.
        """
        if not self._waiting or len(self._reading) - len(self._late) >= self._parallel_max:
            return
        full = len(self._waiting) >= self._keys_max
        if self._scheduled is not None:
            if not full or self._soon:
                return
            self._scheduled.cancel()
        loop = self._loop
        self._soon = full or loop.time() >= self._next_s
        if self._soon:
            self._scheduled = loop.call_soon(self._start)
        else:
            self._scheduled = loop.call_at(self._next_s, self._start)

    def _start(self) -> None:
        self._scheduled = None
        keys = list(self._waiting)[: self._keys_max]
        pause_s = pause_after(len(keys), self._pause_s)
        self._next_s = self._loop.time() + pause_s
        asked = {key: self._waiting.pop(key) for key in keys}
        task = asyncio.create_task(self._answer(asked))
        self._reading.add(task)
        timer = self._loop.call_later(LATE_S, self._is_late, task)
        task.add_done_callback(partial(self._ended, timer))
        self._schedule()

    def _is_late(self, task: asyncio.Task[None]) -> None:
        self._late.add(task)
        self._schedule()

    def _ended(self, timer: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        timer.cancel()
        self._reading.discard(task)
        self._late.discard(task)
        self._schedule()

    async def _answer(self, asked: Mapping[K, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._read(list(asked))
        except Exception as error:  # noqa: BLE001  it belongs to those who wait
            for futures in asked.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            return
        for key, futures in asked.items():
            for future in futures:
                if not future.done():
                    future.set_result(found.get(key))
