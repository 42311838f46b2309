"""The pause in which what comes together is gathered grows with how much comes."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.pause import LONGER_MAX, MANY, pause_after


def test_who_comes_alone_waits_for_nothing_and_few_not_longer_than_is_set() -> None:
    assert pause_after(1, 5.0) == 0.0
    assert {pause_after(count, 5.0) for count in range(2, MANY + 1)} == {5.0}


@given(st.integers(MANY, 10_000), st.integers(0, 100))
def test_it_grows_with_what_came_and_is_bounded(count: int, more: int) -> None:
    assert 5.0 <= pause_after(count, 5.0) <= pause_after(count + more, 5.0) <= 5.0 * LONGER_MAX
    assert pause_after(count, 0.0) == 0.0
