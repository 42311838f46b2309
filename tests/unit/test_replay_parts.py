"""The small parts of a replay: the pace, the pairs that came before, the reader that stops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.replay_bar import slowed
from millrace.clock import ManualClock
from millrace.log.memory import MemoryLog
from millrace.stores.pairs_seen import PairsSeen
from streams.replay_reader import ReaderUntil
from streams.throttle import Throttle


async def test_a_throttle_keeps_the_rate() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, per_s=1_000)
    for _ in range(50):
        await throttle.spent(100)
    assert clock.monotonic_s() == pytest.approx(5.0, rel=0.02)


async def test_a_throttle_saves_nothing_up() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, per_s=1_000)
    clock.advance(60_000)
    for _ in range(3):
        await throttle.spent(500)
    assert clock.monotonic_s() == pytest.approx(61.0)


def test_how_a_replay_is_slowed_is_told() -> None:
    assert slowed("rows", 0, 1.0) == ""
    assert slowed("rows", 5_000, 1.0) == "at most 5,000 rows/s"
    assert slowed("events", 20, 0.3) == "at most 20 events/s, at work 30% of the time"


async def test_a_batch_is_what_the_rate_allows_in_a_second() -> None:
    clock = ManualClock()
    assert Throttle(clock, per_s=0).batch(50_000) == 50_000
    assert Throttle(clock, per_s=1_000).batch(50_000) == 1_000
    assert Throttle(clock, per_s=1_000).batch(7) == 7
    assert Throttle(clock, per_s=0.1).batch(7) == 1


async def test_the_time_of_the_work_itself_counts_for_the_rate() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, per_s=1_000)
    for _ in range(10):
        clock.advance(400)
        await throttle.spent(500)
    assert clock.monotonic_s() == pytest.approx(5.0)


async def test_without_a_rate_nothing_waits() -> None:
    clock = ManualClock()
    await Throttle(clock, per_s=0).spent(1_000_000)
    assert clock.monotonic_s() == 0


async def test_a_share_of_the_time_is_worked_and_the_rest_is_paused() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, per_s=0, share=0.25)
    for step_ms in (1, 1, 400, 30, 1_000) * 4:
        clock.advance(step_ms)
        await throttle.spent(1)
    worked_s = 4 * 1.432
    assert clock.monotonic_s() == pytest.approx(worked_s / 0.25, rel=0.001)


async def test_of_rate_and_share_the_slower_one_counts() -> None:
    for per_s, expected_s in ((10, 50.0), (1_000, 20.0)):
        clock = ManualClock()
        throttle = Throttle(clock, per_s, share=0.5)
        for _ in range(10):
            clock.advance(1_000)
            await throttle.spent(50)
        assert clock.monotonic_s() == pytest.approx(expected_s, rel=0.01)


async def test_one_long_statement_is_not_paused_for_as_long_again() -> None:
    clock = ManualClock()
    throttle = Throttle(clock, per_s=0, share=0.5)
    clock.advance(3_600_000)
    await throttle.spent(0)
    assert clock.monotonic_s() == pytest.approx(3_610.0)


pairs = st.lists(st.tuples(st.integers(1, 2**62), st.integers(1, 5)), max_size=40)


@settings(deadline=None)
@given(parts=st.lists(pairs, max_size=5))
def test_what_is_called_new_never_came_before(parts: list[list[tuple[int, int]]]) -> None:
    seen, before = PairsSeen(8), set()
    for part in parts:
        columns = (np.array([pair[side] for pair in part], np.int64) for side in (0, 1))
        for pair, again in zip(part, seen.again(*columns), strict=True):
            assert again or pair not in before
            before.add(pair)


def test_few_new_pairs_are_taken_for_old_ones() -> None:
    seen = PairsSeen(1024 * 1024)
    ids = np.arange(1, 100_001, dtype=np.int64)
    assert np.count_nonzero(seen.again(ids, ids[::-1].copy())) < 2_000
    assert seen.again(ids, ids[::-1].copy()).all()


async def test_a_reader_gives_nothing_after_its_end_until_it_rises() -> None:
    log = MemoryLog(2, ManualClock())
    for number in range(10):
        await log.append("likes", b"key", b"%d" % number, partition=number % 2)
    reader = ReaderUntil(log, {("likes", 0): 0, ("likes", 1): 1})
    found = []
    for until in (0, 2, 2, 5):
        reader.reach({("likes", 0): until, ("likes", 1): until})
        for _ in range(3):
            found += [(one.partition, one.number) for one in await reader.batch(3, 0)]
        assert all(number <= until for _, number in found)
        expected = [(0, number) for number in range(1, until + 1)]
        expected += [(1, number) for number in range(2, until + 1)]
        assert sorted(found) == expected
