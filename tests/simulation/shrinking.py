"""A long history that fails, cut down to a short one that fails in the same way.

Delta debugging (ddmin of Zeller and Hildebrandt) over the list of actions; then parts that stop
here and there run until they have nothing to do, which makes the next cuts possible. Any part of
a history is a history, so nothing has to be known of the actions.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.simulation.history import Failure, play
from tests.simulation.world import Action

PLAYS_MAX = 3_000
TO_THE_END = 1_000
_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class Shrinking:
    """`plays`: how often a history was played; no more than `plays_max`."""

    failure: Failure
    plays_max: int = PLAYS_MAX
    plays: int = 0

    def run(self) -> Failure:
        """The shortest that was found."""
        self._cut()
        self._run_to_the_end()
        while self._cut() or self._smaller():
            continue
        return self.failure

    def _tried(self, actions: list[Action]) -> bool:
        """Whether these fail in the same way; if so they are what is cut next."""
        if self.plays >= self.plays_max:
            return False
        self.plays += 1
        failure = play(actions).failure
        if failure is None or _kind(failure.what) != _kind(self.failure.what):
            return False
        failure.seed, self.failure = self.failure.seed, failure
        return True

    def _cut(self) -> bool:
        """Leave out half of the actions, a quarter, …, each one; whether any could be left out."""
        before = len(self.failure.actions)
        size = max(before // 2, 1)
        while True:
            start, cut = 0, False
            while start < len(self.failure.actions):
                actions = self.failure.actions
                if self._tried([*actions[:start], *actions[start + size :]]):
                    cut = True
                else:
                    start += size
            if size == 1 and not cut:
                return len(self.failure.actions) < before
            size = max(size // 2, 1)

    def _run_to_the_end(self) -> None:
        self._each(lambda action: _with_turns(action, TO_THE_END))

    def _smaller(self) -> bool:
        """Simpler values, where they do; whether there are fewer actions now."""
        before = len(self.failure.actions)
        self._run_to_the_end()
        return len(self.failure.actions) < before

    def _each(self, simpler: Callable[[Action], Action]) -> None:
        for index in range(len(self.failure.actions)):
            actions = list(self.failure.actions)
            if index < len(actions) and (changed := simpler(actions[index])) != actions[index]:
                actions[index] = changed
                self._tried(actions)


def _with_turns(action: Action, turns: int) -> Action:
    return (*action[:3], turns) if action[0] == "run" else action


def _kind(what: str) -> str:
    """What failed, without which user or item it was."""
    return " ".join(_words(what))


def _words(what: str) -> Iterator[str]:
    yield from _NUMBERS.sub("#", what).split()[:4]
