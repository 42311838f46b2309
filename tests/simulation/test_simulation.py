"""The core under faults of all kinds, checked against the oracle: a few seeds in `make test`."""

import os
import secrets
import subprocess
import sys

import pytest

from tests.simulation.history import draw, play
from tests.simulation.run import keep, quietly, run, shrunk, story
from tests.simulation.world import Action

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


def test_a_planner_sees_a_fall_of_what_was_never_published() -> None:
    """The media view reaches a post, is put back and catches up while the planner reads its rows:
    nobody had published the position, so no epoch tells, and the post is never planned.
    """
    with quietly():
        failure = play(
            [
                ("settle",),
                ("client", "post", 2, 0, 10),
                ("run", "fanout 2", "planner", 1000),
                ("client", "delete", 1),
                ("client", "post", 4, 1, 9),
                ("pass", 20.0),
                ("copy", "replica"),
                ("run", "projector 2", "media", 1000),
                ("run", "fanout 2", "planner", 20),
                ("restore", "replica"),
                ("run", "fanout 2", "planner", 1),
            ]
        ).failure
    assert failure is None


def test_what_a_planner_is_given_again_promises_nothing_new() -> None:
    """It would be planned at newer positions and the planner die before the rows are written; the
    mark, which has passed the post, lets the restart pass over it.
    """
    with quietly():
        failure = play(
            [
                ("client", "post", 4, 0, 21),
                ("settle",),
                ("client", "follow", 2, 4),
                ("repeat", "fanout 2", "planner", 3),
                ("pass", 20.0),
                ("run", "projector 2", "follows", 1000),
                ("run", "fanout 2", "planner", 10),
                ("kill", "fanout 2"),
            ]
        ).failure
    assert failure is None


def test_who_slept_while_another_planned_promises_nothing_new() -> None:
    """He has not heard that his partition is another's, plans again where more follow by now, and
    dies: who starts after the other's mark would deliver none of it.
    """
    actions: list[Action] = [
        ("run", "fanout 2", "planner", 1000),
        ("settle",),
        ("client", "post", 2, 0, 30),
        ("client", "post", 2, 1, 33),
        ("pass", 0.3),
        ("client", "post", 2, 1, 6),
        ("client", "post", 2, 1, 24),
        ("pass", 0.3),
        ("pause", "fanout 2"),
        ("pass", 0.3),
        ("forget", 1.0),
        ("client", "follow", 3, 2),
        ("pass", 0.3),
        ("run", "projector 2", "media", 1000),
        ("client", "follow", 1, 2),
        ("expel", "fanout 2"),
        ("run", "fanout 1", "planner", 1000),
    ]
    with quietly():
        assert play(actions).failure is None


def test_a_store_that_was_away_is_looked_at_before_anything_is_tried_again() -> None:
    """A batch is committed and its answer lost; the view is put back to just before the batch while
    the worker waits. Tried again at once, it would catch up before anybody saw that it fell.
    """
    with quietly():
        failure = play(
            [
                ("copy", "backup"),
                ("run", "projector 1", "progress", 1000),
                ("run", "projector 1", "follows", 5),
                ("pass", 70.0),
                ("client", "unfollow", 4, 2),
                ("run", "projector 1", "progress", 1000),
                ("fault", "projector 1", "views", "late", 8),
                ("run", "projector 1", "follows", 1000),
                ("pass", 70.0),
                ("run", "projector 2", "progress", 1000),
                ("restore", "backup"),
            ]
        ).failure
    assert failure is None


BEGINNINGS: list[list[Action]] = [
    # The answer that tells where to begin gets lost, and it waits before it asks again.
    [
        ("forget", 10.0),
        ("pass", 0.3),
        ("run", "fanout 1", "positions", 1000),
        ("start", "fanout 1"),
        ("fault", "fanout 1", "feeds", "after", 3),
        ("run", "fanout 1", "chunks", 1000),
    ],
    # The log is away when partitions are shared anew, and nobody looks at the nodes meanwhile.
    [
        ("fault", "fanout 1", "log", "before", 1),
        ("share", "fanout", 5, True),
        ("run", "fanout 1", "chunks", 1000),
        ("forget", 10.0),
    ],
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_who_does_not_know_where_to_begin_yet_has_not_caught_up(
    beginning: list[Action],
) -> None:
    """By the stored positions nothing is left to deliver, until it has stepped back."""
    posted: list[Action] = [("client", "post", 1, 1, 2), ("client", "follow", 3, 1), ("settle",)]
    with quietly():
        failure = play([*posted, ("pass", 0.9), *beginning]).failure
    assert failure is None
