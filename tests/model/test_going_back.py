"""A view goes back by the promotion of a replica that was behind; its epoch rises, and whoever
follows it steps back with it. The follower here forgets cached values: for each event, once the
view covers it. A value that is filled from a view which went back must be forgotten again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.model.explore import explore

EVENTS = 3
PROMOTIONS_MAX = 2


@dataclass(frozen=True)
class State:
    """`lowest`: where the view was when each epoch began. `at`: where the projector believes the
    view is. `follower` is its position, and the epoch that it knows. `cached`: what the view had
    covered when the value was read; -1 is nothing.
    """

    view: int = 0
    replica: int = 0
    at: int = 0
    lowest: tuple[int, ...] = (0,)
    follower: tuple[int, int] = (0, 1)
    cached: int = -1
    promotions: int = 0

    @property
    def epoch(self) -> int:
        return len(self.lowest)


Follow = Callable[[State], int]


def to_the_lowest(state: State) -> int:
    """Where the follower goes on: not above where any epoch that he did not know began."""
    position, epoch = state.follower
    return min((position, *state.lowest[epoch:]))


def where_the_view_is(state: State) -> int:
    position, epoch = state.follower
    return position if state.epoch == epoch else min(position, state.view)


def where_he_was(state: State) -> int:
    return state.follower[0]


def successors(follow: Follow, raises: bool, state: State) -> Iterator[tuple[str, State]]:
    if state.view != state.at:
        # The projector's compare-and-set has failed: it reads where the view is.
        lowest = (*state.lowest, state.view) if raises and state.view < state.at else state.lowest
        words = f"projector finds the view at {state.view}, epoch {len(lowest)}"
        yield words, replace(state, at=state.view, lowest=lowest)
    elif state.view < EVENTS:
        covered = state.view + 1
        yield f"view applies {covered}", replace(state, view=covered, at=covered)
    if state.replica < state.view:
        yield "replica catches up by one", replace(state, replica=state.replica + 1)
        if state.promotions < PROMOTIONS_MAX:
            yield (
                f"replica at {state.replica} is promoted",
                replace(state, view=state.replica, promotions=state.promotions + 1),
            )
    if state.cached < 0:
        yield f"a reader fills from the view at {state.view}", replace(state, cached=state.view)
    position = follow(state)
    if (position, state.epoch) != state.follower:
        stepped = replace(state, follower=(position, state.epoch))
        yield f"follower goes on after {position}, epoch {state.epoch}", stepped
    elif position < state.view:
        done = (position + 1, state.epoch)
        yield f"follower forgets for {position + 1}", replace(state, follower=done, cached=-1)


def wrong(state: State, ended: bool) -> str:
    if ended and state.view != EVENTS:
        return f"the view stands still at {state.view}"
    return f"stale for ever: cached at {state.cached}" if ended and state.cached != EVENTS else ""


def test_nothing_is_stale_for_ever() -> None:
    found = explore(State(), lambda state: successors(to_the_lowest, True, state), wrong)
    print(found)
    assert not found.path


@pytest.mark.parametrize(
    ("follow", "raises"),
    [(to_the_lowest, False), (where_he_was, True), (where_the_view_is, True)],
    ids=["epoch not raised", "follower keeps its position", "follower steps back too little"],
)
def test_what_is_broken_is_found(follow: Follow, raises: bool) -> None:
    found = explore(State(), lambda state: successors(follow, raises, state), wrong)
    print(found)
    assert found.path[-1].startswith("stale for ever")
