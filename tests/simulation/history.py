"""A history: the actions of one world, drawn by a seed or played again, and what failed.

A simulation of many steps is many short histories, each in a world of its own, so that whatever
fails can be played again, and cut, without the others.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from tests.simulation.actions import Actions, told
from tests.simulation.checks import Checks
from tests.simulation.settling import settle
from tests.simulation.world import Action, World

STEPS_MAX = 1_000
SETTLE_EVERY = 400
LAST_SHOWN = 20


@dataclass(slots=True)
class Failure:
    """`settling`: it showed when everybody had caught up after the last action."""

    what: str
    actions: list[Action]
    settling: bool
    seed: str = ""

    def __str__(self) -> str:
        last = [f"  {told(action)}" for action in self.actions[-LAST_SHOWN:]]
        when = "after everybody had caught up" if self.settling else "at the last of them"
        return "\n".join(
            (
                f"seed {self.seed}, step {len(self.actions)}: {self.what}",
                f"the last actions ({when}):",
                *last,
            )
        )


@dataclass(slots=True)
class Played:
    """`digest`: of all records of the log, to compare two runs. `counts`: actions that did
    something, by kind; `met`: what became of them.
    """

    steps: int = 0
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    handles: int = 0
    digest: str = ""
    failure: Failure | None = None
    actions: list[Action] = field(default_factory=list)


def draw(seed: str, steps: int = STEPS_MAX) -> Played:
    """One world of so many steps, ended by a settling, unless something fails before."""
    random = Random(sha256(seed.encode()).digest())
    world, played = World(), Played()
    with world.running():
        checks, actions = Checks(world), Actions(random, world)
        while played.steps < steps and played.failure is None:
            until = min(steps, played.steps + random.randint(SETTLE_EVERY // 4, SETTLE_EVERY))
            while played.steps < until and played.failure is None:
                action = actions.next()
                played.actions.append(action)
                played.steps += 1
                _judge(played, _step(world, checks, action), settling=False)
            if played.failure is None:
                played.actions.append(("settle",))
                _judge(played, _settled(world, checks), settling=True)
        _close(world, played)
    if played.failure is not None:
        played.failure.seed = seed
    return played


def play(actions: list[Action]) -> Played:
    """A history again, or a part of one; always ended by a settling."""
    world, played = World(), Played()
    with world.running():
        checks = Checks(world)
        for action in actions:
            if played.failure is not None:
                break
            played.actions.append(action)
            played.steps += 1
            wrong = _step(world, checks, action)
            _judge(played, wrong, settling=action == ("settle",))
        if played.failure is None and actions[-1:] != [("settle",)]:
            _judge(played, _settled(world, checks), settling=True)
        _close(world, played)
    return played


def _step(world: World, checks: Checks, action: Action) -> str:
    match action:
        case ("settle",):
            return _settled(world, checks)
        case ("look",):
            world.counts["look"] += 1
            return checks.look()
        case ("read", int(user), str(copy)):
            world.counts["read"] += 1
            return checks.read(user, copy)
    world.do(action)
    return world.wrongs[0] if world.wrongs else ""


def _settled(world: World, checks: Checks) -> str:
    settle(world)
    world.counts["settle"] += 1
    return world.wrongs[0] if world.wrongs else checks.settled()


def _judge(played: Played, wrong: str, *, settling: bool) -> None:
    if wrong:
        played.failure = Failure(wrong, list(played.actions), settling)


def _close(world: World, played: Played) -> None:
    played.events, played.handles = world.counts.pop("events", 0), world.loop.handles
    played.counts, played.met = world.counts, +world.met
    digest = sha256()
    for place, records in sorted(world.log._records.items()):
        digest.update(repr(place).encode())
        for record in records:
            digest.update(repr(record).encode())
    played.digest = digest.hexdigest()
