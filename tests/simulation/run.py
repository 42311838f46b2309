"""Many histories by one seed, as many steps as asked for; the first that fails is shrunk.

`make sim SEED=n STEPS=m` runs `python -m tests.simulation`. The same seed and steps are the same
histories in any process on any machine.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from tests.simulation.actions import told
from tests.simulation.history import STEPS_MAX, Failure, draw
from tests.simulation.shrinking import PLAYS_MAX, Shrinking

FOLDER = Path("build/sim")
CHECKS = ("look", "read", "settle")


@dataclass(frozen=True, slots=True)
class Ran:
    """`worlds`: histories that were played. `failure`: the first, as it happened."""

    steps: int
    worlds: int
    events: int
    seconds: float
    failure: Failure | None
    counts: Counter[str]
    met: Counter[str]

    @property
    def steps_a_minute(self) -> int:
        return round(self.steps / max(self.seconds, 1e-9) * 60)

    def summary(self) -> str:
        """How much of everything there was: what is not here was not tried."""
        moves = Counter({name: count for name, count in self.counts.items() if name not in CHECKS})
        met = Counter({name: count for name, count in self.met.items() if " amid " not in name})
        killed = Counter({n: count for n, count in self.met.items() if n.startswith("killed amid")})
        looks, reads, rests = (self.counts[name] for name in CHECKS)
        return "\n".join(
            (
                f"{self.steps:,} steps in {self.worlds} worlds, {self.events:,} events of clients, "
                f"{self.seconds:.1f} s: {self.steps_a_minute:,} steps a minute",
                f"moves that did something: {_counted(moves)}",
                f"what they met: {_counted(met)}",
                f"killed in the middle of {killed.total():,} calls: {_counted(killed)}",
                f"compared with the oracle: all views {looks + rests:,} times, a feed {reads:,} "
                f"times in between and every feed {rests:,} times at rest",
            )
        )


def run(seed: int, steps: int, heard: Callable[[int], None] = lambda _: None) -> Ran:
    """`heard` is told how many steps are done, after each history."""
    began, done, worlds, events = time.monotonic(), 0, 0, 0
    failure = None
    counts, met = Counter[str](), Counter[str]()
    with quietly():
        while done < steps and failure is None:
            played = draw(f"{seed}/{worlds}", min(STEPS_MAX, steps - done))
            done, worlds, events = done + played.steps, worlds + 1, events + played.events
            failure = played.failure
            counts, met = counts + played.counts, met + played.met
            heard(done)
    return Ran(done, worlds, events, time.monotonic() - began, failure, counts, met)


def _counted(counts: Counter[str]) -> str:
    told = (f"{name} {count:,}" for name, count in counts.most_common())
    return ", ".join(told).replace("killed amid ", "") or "nothing"


def shrunk(failure: Failure, plays_max: int = PLAYS_MAX) -> Failure:
    with quietly():
        return Shrinking(failure, plays_max).run()


def story(failure: Failure, short: Failure, again: str) -> str:
    """What to show and to keep of a failure. `again`: the command that repeats it."""
    actions = [f"  {number}. {told(action)}" for number, action in enumerate(short.actions, 1)]
    return "\n".join(
        (
            str(failure),
            "",
            f"to repeat it: {again}",
            "",
            f"the shortest history that was found, {len(short.actions)} actions: {short.what}",
            *actions,
            "  then everybody catches up" if short.settling else "",
            "",
            "for tests.simulation.history.play:",
            *(f"  {action!r}," for action in short.actions),
            "",
        )
    )


def keep(failure: Failure, text: str) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"failure-{failure.seed.replace('/', '-')}.txt"
    path.write_text(text)
    return path


@contextmanager
def quietly() -> Iterator[None]:
    """Stores that are away are no news here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)
