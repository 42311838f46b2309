"""The small parts of a replay: the pace, the pairs that came before, the reader that stops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    await throttle.spent(500)
    assert clock.monotonic_s() == pytest.approx(60.5, rel=0.01)


async def test_without_a_rate_nothing_waits() -> None:
    clock = ManualClock()
    await Throttle(clock, per_s=0).spent(1_000_000)
    assert clock.monotonic_s() == 0


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
