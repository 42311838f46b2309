"""Ids and numbers."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.ids import (
    EPOCH_MS,
    GENERATION_SHIFT,
    IdMint,
    minted_ms,
    number_of,
    offset_after,
)

offsets = st.integers(0, 2**48 - 2)
generations = st.integers(0, 1_000)


@given(generations, offsets)
def test_the_position_of_an_event_leads_to_the_next_one(generation: int, offset: int) -> None:
    assert offset_after(number_of(generation, offset)) == offset + 1


@given(generations, offsets, generations, offsets)
def test_numbers_order_as_generations_then_offsets(g1: int, o1: int, g2: int, o2: int) -> None:
    assert (number_of(g1, o1) < number_of(g2, o2)) == ((g1, o1) < (g2, o2))


def test_position_0_lies_before_the_first_event() -> None:
    assert offset_after(0) == 0
    assert number_of(0, 0) == 1
    assert number_of(1, 0) == (1 << GENERATION_SHIFT) + 1


@given(st.lists(st.tuples(st.integers(-5_000, 5_000), st.integers(0, 4095)), max_size=200))
def test_ids_never_fall_whatever_the_clock_does(steps: list[tuple[int, int]]) -> None:
    clock = ManualClock()
    mint = IdMint(clock)
    last: dict[int, int] = {}
    seen: set[int] = set()
    time_before = 0
    for jump_ms, partition in steps:
        clock.jump(jump_ms)
        minted = mint.mint(partition)
        assert 0 < minted < 2**63
        assert minted not in seen
        assert minted > last.get(partition, 0)
        assert minted_ms(minted) >= time_before
        seen.add(minted)
        last[partition] = minted
        time_before = minted_ms(minted)


def test_a_busy_millisecond_borrows_from_the_next() -> None:
    clock = ManualClock()
    mint = IdMint(clock)
    ids = [mint.mint(3) for _ in range(5_000)]
    assert ids == sorted(set(ids))
    assert minted_ms(ids[0]) == clock.now_ms()
    assert minted_ms(ids[-1]) - clock.now_ms() <= 5


def test_a_clock_before_the_epoch_is_no_negative_id() -> None:
    assert IdMint(ManualClock(now_ms=EPOCH_MS - 10)).mint(0) > 0
