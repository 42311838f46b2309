"""Where the time of a replay goes: seconds and CPU time of each step that it tells.

phases = Phases(stand.spent_us)
await replay_view(view, replace(parts, told=phases.told), wanted)
phases.told("", 0, 0)
print(phases.story(items))
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """`cpu_us` by process."""

    name: str
    seconds: float
    cpu_us: Mapping[str, float]


class Phases:
    """`spent`: CPU time so far by process. Asking takes time, so a turn with phases is slower."""

    def __init__(self, spent: Callable[[], Mapping[str, float]]) -> None:
        self.found: list[Phase] = []
        self._spent = spent
        self._name = ""
        self._begun_s = 0.0
        self._before: Mapping[str, float] = {}

    def told(self, name: str, _done: int, _total: int) -> None:
        """A step has begun, or goes on; the one before it has ended. No name: nothing follows."""
        if name == self._name:
            return
        now_s, spent = time.perf_counter(), self._spent()
        if self._name:
            cpu = {who: us - self._before.get(who, 0) for who, us in spent.items()}
            self.found.append(Phase(self._name, now_s - self._begun_s, cpu))
        self._name, self._begun_s, self._before = name, time.perf_counter(), spent

    def story(self, items: int) -> str:
        """One line: each step's seconds and, by process, µs of CPU time an item."""
        steps = []
        for phase in self.found:
            spent = (f"{who} {us / items:.1f}" for who, us in sorted(phase.cpu_us.items()))
            steps.append(f"{phase.name} {phase.seconds:.2f} s ({', '.join(spent)})")
        return "; ".join(steps)
