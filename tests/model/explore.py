"""Every interleaving of a small model, by plain search over its states.

A state is a frozen dataclass. `successors(state)` gives what may happen next: (in words, state).
`wrong(state, ended)` says what must never be, or nothing; `ended`: nothing can happen any more.
The search is breadth-first, so the path to what is wrong is a shortest one.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

STATES_MAX = 500_000

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Explored:
    """`path`: what happened, in words, and at last what was wrong; empty where nothing was."""

    states: int
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n  ".join((f"{self.states:,} states", *self.path))


def explore(
    start: S,
    successors: Callable[[S], Iterable[tuple[str, S]]],
    wrong: Callable[[S, bool], str],
) -> Explored:
    """All states, or as many as it takes to find one that is wrong."""
    came_from: dict[S, tuple[str, S] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        following = list(successors(state))
        if complaint := wrong(state, not following):
            return Explored(len(came_from), (*_path(came_from, state), complaint))
        for words, after in following:
            if after not in came_from:
                came_from[after] = (words, state)
                waiting.append(after)
        assert len(came_from) <= STATES_MAX, "a model that is too large proves nothing"
    return Explored(len(came_from))


def _path(came_from: dict[S, tuple[str, S] | None], state: S) -> list[str]:
    path = []
    while (step := came_from[state]) is not None:
        words, state = step
        path.append(words)
    return path[::-1]
