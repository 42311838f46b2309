"""The plan of the traffic: repeatable, open loop, in proportion, never before its time."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.traffic.mix import Rpc, mix_of
from millrace.traffic.people import handle
from millrace.traffic.plan import (
    ABOUT_UPLOADS,
    RUSH_S,
    SETTLED_AFTER_S,
    Plan,
    PlanOrder,
    make_plan,
    online,
    planned,
)

PEOPLE = 60
# Everybody follows the next ten, and all follow the first.
FOLLOWING = [
    sorted({(i + step) % PEOPLE for step in range(1, 11)} | ({0} - {i})) for i in range(PEOPLE)
]


def plan(seed: int = 7, seconds: float = 40.0, rate: float = 150.0) -> Plan:
    return make_plan(FOLLOWING, seed=seed, seconds=seconds, rate=rate, actors=40)


def test_one_seed_gives_one_plan() -> None:
    assert plan(seed=3) == plan(seed=3)
    assert plan(seed=3) != plan(seed=4)


def test_starts_are_in_order_and_at_the_rate_asked_for() -> None:
    times = [action.at_s for action in plan().actions if action.rpc is not Rpc.LOG_IN]
    assert times == sorted(times)
    assert 0.9 < len(times) / (40.0 * 150.0) < 1.1


def test_proportions_are_those_of_the_day() -> None:
    counts = Counter(action.rpc for action in plan(seconds=120.0).actions)
    assert 30 < counts[Rpc.LIKE] / counts[Rpc.UPLOAD] < 50
    assert counts[Rpc.LOG_IN] == 40


def test_nobody_acts_before_he_is_there_and_nothing_is_liked_before_it_is_there() -> None:
    there: dict[int, float] = {}
    uploaded: dict[int, float] = {}
    for action in plan().actions:
        if action.rpc in (Rpc.LOG_IN, Rpc.REGISTER):
            there[action.actor] = action.at_s
            continue
        assert action.at_s >= there[action.actor] + SETTLED_AFTER_S - 1e-9
        if action.rpc is Rpc.UPLOAD:
            uploaded[action.target] = action.at_s
        elif action.rpc in (Rpc.UNLIKE, *ABOUT_UPLOADS):
            assert action.at_s >= uploaded[action.target] + SETTLED_AFTER_S - 1e-9


def test_follows_are_new_and_never_of_oneself() -> None:
    follows = {i: set(followees) for i, followees in enumerate(FOLLOWING)}
    for action in plan().actions:
        followees = follows.setdefault(action.actor, set())
        if action.rpc is Rpc.FOLLOW:
            assert action.target != action.actor
            assert action.target not in followees
            followees.add(action.target)
        elif action.rpc is Rpc.UNFOLLOW:
            followees.remove(action.target)


def test_an_empty_plan_and_a_graph_of_nobody() -> None:
    assert make_plan([], seed=1, seconds=1.0, rate=50.0, actors=10).actions == ()


def test_handles_are_unique_and_obey_the_rule() -> None:
    handles = {handle(i, "abcd") for i in range(5_000)}
    assert len(handles) == 5_000
    assert max(map(len, handles)) <= 30


ORDER = PlanOrder(seed=5, seconds=120.0, rate=100.0, actors=40)


def test_a_plan_that_is_played_as_it_is_made_is_the_same_one() -> None:
    order = replace(ORDER, seconds=40.0, rate=150.0, seed=7, arriving=True)
    assert tuple(planned(FOLLOWING, order)) == plan().actions


def test_every_process_makes_the_same_plan_whatever_its_hash_seed() -> None:
    code = "from tests.unit.test_traffic_plan import ORDER, digest\nprint(digest(ORDER))\n"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": ".:protos/gen", "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert found == {digest(ORDER)}


def digest(order: PlanOrder) -> str:
    lines = (repr(action).encode() for action in planned(FOLLOWING, order))
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def test_where_nobody_has_to_arrive_all_act_at_once() -> None:
    actions = list(planned(FOLLOWING, ORDER))
    assert not [action for action in actions if action.rpc is Rpc.LOG_IN]
    first = {action.actor for action in actions if action.at_s < 10.0}
    assert len(first & set(online(FOLLOWING, ORDER))) == 40


def test_a_mix_of_ones_own_is_kept() -> None:
    order = replace(ORDER, mix=mix_of("likes=40,uploads=1,feed=100"))
    counts = Counter(action.rpc for action in planned(FOLLOWING, order))
    assert set(counts) == {Rpc.LIKE, Rpc.UPLOAD, Rpc.GET_FEED}
    assert 2.0 < counts[Rpc.GET_FEED] / counts[Rpc.LIKE] < 3.2


def test_a_celebritys_post_is_what_all_look_at() -> None:
    quiet = list(planned(FOLLOWING, ORDER))
    loud = list(planned(FOLLOWING, replace(ORDER, celebrity_every_s=40.0)))
    assert len(loud) == pytest.approx(len(quiet), rel=0.05)
    most = max(online(FOLLOWING, ORDER), key=lambda i: sum(i in whom for whom in FOLLOWING))
    posts = [a for a in loud if a.rpc is Rpc.UPLOAD and a.actor == most and a.at_s % 40.0 == 20.0]
    assert [post.at_s for post in posts] == [20.0, 60.0, 100.0]
    for post in posts:
        shown_s = post.at_s + SETTLED_AFTER_S
        rush = [a for a in loud if a.rpc is Rpc.LIKE and shown_s < a.at_s < shown_s + RUSH_S]
        assert sum(a.target == post.target for a in rush) > len(rush) / 3
