"""The core under faults of all kinds, checked against the oracle: a few seeds in `make test`."""

import os
import secrets
import subprocess
import sys

import pytest

from tests.simulation.history import draw, play
from tests.simulation.run import keep, quietly, run, shrunk, story

SEEDS = (1, 2, 3)
STEPS = 5_000
SHRINK_PLAYS = 300


def simulate(seed: int, steps: int) -> None:
    ran = run(seed, steps)
    print(f"SEED={seed} STEPS={steps}: {ran.events} events, {ran.steps_a_minute} steps a minute")
    if ran.failure is not None:
        short = shrunk(ran.failure, SHRINK_PLAYS)
        text = story(ran.failure, short, f"make sim SEED={seed} STEPS={steps}")
        keep(ran.failure, text)
        raise AssertionError(text)
    assert ran.events > steps // 20


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds(seed: int) -> None:
    simulate(seed, STEPS)


@pytest.mark.parametrize("fresh", [1, 2])
def test_everything_holds_with_a_fresh_seed(fresh: int) -> None:
    simulate(secrets.randbelow(1_000_000) * 2 + fresh, STEPS)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_everything_holds_for_long() -> None:
    simulate(secrets.randbelow(1_000_000), 100_000)


def test_a_history_is_the_same_again() -> None:
    with quietly():
        drawn = draw("again", 600)
        assert drawn.failure is None
        assert play(drawn.actions).digest == drawn.digest


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Whatever the order of sets and the address of objects is there."""
    code = (
        "from tests.simulation.history import draw\n"
        "from tests.simulation.run import quietly\n"
        "with quietly(): print(draw('anywhere', 600).digest)"
    )
    digests = set()
    for hashed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hashed, "PYTHONPATH": ".:protos/gen"},
            check=True,
            capture_output=True,
            text=True,
        )
        digests.add(told.stdout)
    assert len(digests) == 1
