"""Concurrent reads by key become few reads; nobody gets an answer older than his question."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from millrace.errors import StoreUnavailable
from services.batching import Batched


class Source:
    """Answers with ten times the key, for even keys; waits while `gate` is closed."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def read(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.reads.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {key: key * 10 for key in keys if key % 2 == 0}


async def test_one_turn_is_one_read() -> None:
    source = Source()
    batched = Batched(source.read, keys_max=100)
    answers = await asyncio.gather(*(batched.get(key) for key in (1, 2, 2, 4)))
    assert answers == [None, 20, 20, 40]
    assert source.reads == [[1, 2, 4]]


async def test_a_read_is_bounded() -> None:
    source = Source()
    batched = Batched(source.read, keys_max=3, reads_parallel_max=1)
    answers = await asyncio.gather(*(batched.get(key) for key in range(10)))
    assert [answer for answer in answers if answer is not None] == [0, 20, 40, 60, 80]
    assert [len(read) for read in source.reads] == [3, 3, 3, 1]


async def test_who_asks_during_a_read_waits_for_the_next() -> None:
    source = Source()
    source.gate.clear()
    batched = Batched(source.read, keys_max=100, reads_parallel_max=1)
    first = asyncio.create_task(batched.get(2))
    while not source.reads:
        await asyncio.sleep(0)
    later = [asyncio.create_task(batched.get(key)) for key in (2, 4)]
    await asyncio.sleep(0)
    assert source.reads == [[2]]
    source.gate.set()
    assert await asyncio.gather(first, *later) == [20, 20, 40]
    assert source.reads == [[2], [2, 4]]


async def test_after_a_read_of_several_who_asks_is_gathered_until_the_pause_ends() -> None:
    """Or until the read is full."""
    source = Source()
    batched = Batched(source.read, keys_max=3, pause_s=3_600)
    assert list(await asyncio.gather(batched.get(2), batched.get(4))) == [20, 40]
    gathered = [asyncio.create_task(batched.get(key)) for key in (4, 6)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert source.reads == [[2, 4]]
    assert await asyncio.gather(*gathered, batched.get(8)) == [40, 60, 80]
    assert source.reads == [[2, 4], [4, 6, 8]]


async def test_who_asks_alone_waits_for_no_pause() -> None:
    source = Source()
    batched = Batched(source.read, keys_max=3, pause_s=3_600)
    assert [await batched.get(key) for key in (2, 4, 6)] == [20, 40, 60]


async def test_a_pause_ends() -> None:
    source = Source()
    batched = Batched(source.read, keys_max=3, pause_s=0.001)
    for _ in range(3):
        assert list(await asyncio.gather(batched.get(2), batched.get(4))) == [20, 40]


async def test_an_error_reaches_all_who_wait_and_passes() -> None:
    source = Source()
    source.error = StoreUnavailable("down")
    batched = Batched(source.read, keys_max=100)
    answers = await asyncio.gather(batched.get(2), batched.get(4), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    source.error = None
    assert await batched.get(2) == 20


async def test_one_who_leaves_takes_nobody_along() -> None:
    source = Source()
    source.gate.clear()
    batched = Batched(source.read, keys_max=100)
    leaving = asyncio.create_task(batched.get(2))
    staying = asyncio.create_task(batched.get(2))
    while not source.reads:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    source.gate.set()
    assert await staying == 20


async def test_a_read_that_hangs_keeps_only_those_waiting_who_asked_for_it() -> None:
    free = asyncio.Event()

    async def read(keys: Sequence[int]) -> dict[int, int]:
        if 1 in keys:
            await free.wait()
        return {key: key for key in keys}

    batched = Batched(read, keys_max=10, reads_parallel_max=1)
    hanging = asyncio.create_task(batched.get(1))
    while not batched._reading:
        await asyncio.sleep(0)
    assert [await batched.get(key) for key in (2, 3)] == [2, 3]
    assert not hanging.done()
    free.set()
    assert await hanging == 1
    assert not batched._reading
    assert not batched._late
