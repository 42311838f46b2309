"""The plan of the traffic: repeatable, open loop, in proportion, never before its time."""

from collections import Counter

from millrace.traffic.people import handle
from millrace.traffic.plan import ABOUT_UPLOADS, SETTLED_AFTER_S, Plan, Rpc, make_plan

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
