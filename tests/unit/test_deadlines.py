"""A limit ends what takes too long, and nothing else."""

import asyncio
import math

import pytest

from millrace.deadlines import Deadlines, Limit


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_what_takes_too_long_ends() -> None:
    with pytest.raises(TimeoutError), Deadlines().within(0.0):
        await for_ever()
    await asyncio.sleep(0)


async def test_what_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines()
    with deadlines.within(3_600):
        await asyncio.sleep(0)
    with deadlines.at(math.inf) as limit:
        await asyncio.sleep(0)
    assert not deadlines._held
    assert limit.until_s == math.inf


async def test_an_error_passes_as_it_is() -> None:
    with pytest.raises(KeyError), Deadlines().within(3_600):
        raise KeyError


async def test_only_the_limit_that_is_over_becomes_a_timeout() -> None:
    deadlines = Deadlines()
    passed: list[str] = []

    async def inner() -> None:
        try:
            with deadlines.within(3_600):
                await for_ever()
        except asyncio.CancelledError:
            passed.append("inner")
            raise

    with pytest.raises(TimeoutError), deadlines.within(0.0):
        await inner()
    assert passed == ["inner"]


async def test_who_is_cancelled_as_well_stays_cancelled() -> None:
    deadlines, entered = Deadlines(), list[Limit]()

    async def limited() -> None:
        with deadlines.within(3_600) as limit:
            entered.append(limit)
            await for_ever()

    task = asyncio.create_task(limited())
    while not entered:
        await asyncio.sleep(0)
    entered[0].end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_timer_looks_at_many_and_stops_when_none_is_left() -> None:
    deadlines = Deadlines()

    async def limited() -> None:
        with pytest.raises(TimeoutError), deadlines.within(0.0):
            await for_ever()

    await asyncio.gather(*(limited() for _ in range(100)))
    assert not deadlines._held
    while deadlines._timer is not None:
        await asyncio.sleep(0)
