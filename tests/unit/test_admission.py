"""The limit of calls under way, driven by a clock that stands still until it is moved."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from millrace.clock import ManualClock
from millrace.settings import Settings
from services.admission import URGENT, Admission

LIKE = "/social.v1.LikesService/LikeMedia"
FEED = "/social.v1.FeedService/GetFeed"
LOG_OUT = "/social.v1.UsersService/LogOut"
INTERVAL_S = 0.1


@dataclass
class Door:
    """An admission, its clock, and calls that take as long as they are told."""

    clock: ManualClock
    admission: Admission

    def enter(self, path: str, count: int) -> int:
        """So many of `count` calls were let in; they run until `leave`."""
        entered = 0
        for _ in range(count):
            if self.admission.admits(path):
                self.admission.begin(path)
                entered += 1
        return entered

    def leave(self, path: str, count: int, seconds: float, *, ok: bool = True) -> None:
        for _ in range(count):
            self.admission.end(path, seconds, ok=ok)

    def interval(self, path: str, offered: int, seconds: float) -> int:
        """Calls that come together and take so long, and the look that follows."""
        entered = self.enter(path, offered)
        self.clock.advance(round(INTERVAL_S * 1000))
        self.leave(path, entered, seconds)
        return entered


def door(**changed: int) -> Door:
    clock = ManualClock()
    settings = Settings.model_validate(
        {
            "admission_calls_start": 100,
            "admission_calls_min": 8,
            "admission_delay_ms": 50,
            **changed,
        }
    )
    return Door(clock, Admission(settings, clock))


def calm(**changed: int) -> Door:
    """One that knows that a like usually takes 10 ms and a feed 100."""
    made = door(**changed)
    for path, seconds in ((LIKE, 0.01), (FEED, 0.1)):
        made.interval(path, 10, seconds)
        made.interval(path, 10, seconds)
    return made


def test_it_falls_while_most_are_late_never_below_its_least_and_rises_again() -> None:
    made = calm()
    for _ in range(60):
        made.interval(LIKE, 500, 0.2)
    assert made.admission.limit == 8
    for intervals in range(100):  # noqa: B007  how long it took is the answer
        made.interval(LIKE, 500, 0.01)
        if made.admission.limit >= 100:
            break
    assert intervals * INTERVAL_S < 10


def test_it_stays_where_few_are_late_and_nobody_needs_more() -> None:
    made = calm()
    for _ in range(50):
        made.interval(LIKE, 45, 0.01)
        made.interval(LIKE, 5, 0.01)
    assert made.admission.limit == 100


def test_it_stays_where_calls_are_late_and_few_are_under_way() -> None:
    """Then it is not the calls that make each other late."""
    made = calm()
    for _ in range(50):
        made.interval(LIKE, 10, 1.0)
    assert made.admission.limit == 100


def test_it_never_exceeds_the_hard_bound() -> None:
    made = calm(grpc_calls_max=120)
    for _ in range(50):
        made.interval(LIKE, 500, 0.01)
    assert made.admission.limit == 120
    assert door(grpc_calls_max=2).admission.limit == 2


def test_what_is_usual_is_learnt_for_each_rpc() -> None:
    made = calm()
    for _ in range(20):
        made.interval(FEED, 500, 0.1)
    assert made.admission.limit > 100
    for _ in range(20):
        made.interval(LIKE, 500, 0.1)
    assert made.admission.limit < 50


def test_a_slower_usual_is_learnt_while_there_is_room() -> None:
    made = calm()
    for _ in range(200):
        made.interval(LIKE, 10, 0.2)
    for _ in range(20):
        made.interval(LIKE, 500, 0.2)
    assert made.admission.limit > 100


def test_an_overload_of_minutes_is_not_taken_for_the_usual() -> None:
    made = calm()
    for _ in range(round(5 * 60 / INTERVAL_S)):
        made.interval(LIKE, 500, 0.2)
    assert made.admission.limit == 8


def test_it_falls_when_nothing_ends() -> None:
    made = calm()
    entered = made.enter(LIKE, 500)
    for _ in range(40):
        made.clock.advance(100)
        entered += made.enter(LIKE, 500)
    assert entered < 60
    assert made.admission.limit == 8
    made.leave(LIKE, entered, 2.0, ok=False)
    assert made.admission.running == 0
    made.clock.advance(100)
    made.interval(LIKE, 500, 0.01)
    assert made.interval(LIKE, 500, 0.01) >= 6  # three quarters of the least


def test_one_rpc_takes_half_of_the_places_and_leaves_the_rest() -> None:
    made = calm()
    assert made.enter(FEED, 500) == 50
    assert made.enter(LIKE, 500) == 50


def test_one_rpc_that_hangs_leaves_places_where_there_are_fewest() -> None:
    made = door(admission_calls_min=48, admission_calls_start=48)
    assert made.enter(FEED, 500) == 36
    assert made.enter(LIKE, 500) == 12


def test_the_only_rpc_gets_all_the_work_that_there_is() -> None:
    made = calm()
    for _ in range(30):
        made.interval(LIKE, 500, 0.01)
    assert made.enter(LIKE, 500) > 100


def test_what_is_urgent_is_refused_last() -> None:
    made = calm()
    assert made.enter(LIKE, 500) + made.enter(FEED, 500) == 100
    assert LOG_OUT in URGENT
    assert made.enter(LOG_OUT, 500) == 100


def test_a_knock_that_is_not_heard_counts_as_late() -> None:
    made = calm()
    made.admission.knocked()
    for _ in range(40):
        made.interval(LIKE, 500, 0.01)
    assert made.admission.limit < 2
    made.admission.heard()
    made.interval(LIKE, 500, 0.01)
    for _ in range(20):
        made.admission.knocked()
        made.clock.advance(5)
        made.admission.heard()
        made.interval(LIKE, 500, 0.01)
    assert made.admission.limit > 20


def test_a_knock_now_and_then_that_is_heard_late_says_nothing() -> None:
    made = calm()
    for number in range(40):
        made.admission.knocked()
        made.clock.advance(90 if number % 4 else 5)
        made.admission.heard()
        made.interval(LIKE, 500, 0.01)
    assert made.admission.limit > 100


def test_calls_that_failed_at_once_say_nothing() -> None:
    made = calm()
    for _ in range(50):
        entered = made.enter(LIKE, 500)
        made.clock.advance(100)
        made.leave(LIKE, entered, 0.0001, ok=False)
    made.interval(LIKE, 10, 0.01)
    assert made.admission._kinds[LIKE].usual_s == pytest.approx(0.01)


def test_switched_off_it_lets_all_in() -> None:
    made = door(admission_delay_ms=0)
    assert made.enter(LIKE, 5_000) == 5_000


@dataclass
class Machine:
    """Work is done at a fixed pace, divided among the calls under way. `take`: of one call."""

    door: Door
    take_s: dict[str, float]
    under_way: deque[tuple[str, int]] = field(default_factory=deque)
    latencies_s: list[float] = field(default_factory=list)
    worked_s: float = 0.0
    refused: int = 0
    _budget_s: float = 0.0
    _ms: int = 0

    def millisecond(self, arriving: list[str]) -> None:
        for path in arriving:
            if self.door.enter(path, 1):
                self.under_way.append((path, self._ms))
            else:
                self.refused += 1
        self._budget_s = min(self._budget_s, 0) + 0.001 if self.under_way else 0.0
        while self.under_way and self._budget_s > 0:
            path, since_ms = self.under_way.popleft()
            self._budget_s -= self.take_s[path]
            self.worked_s += self.take_s[path]
            seconds = (self._ms + 1 - since_ms) / 1000
            self.latencies_s.append(seconds)
            self.door.leave(path, 1, seconds)
        self.door.clock.advance(1)
        self._ms += 1


@pytest.mark.parametrize("times", [0.5, 1, 2, 3])
def test_a_machine_does_all_it_can_whatever_is_offered(times: float) -> None:
    """A feed costs ten likes; a fifth of the calls are feeds: 357 calls/s are all it can do."""
    machine = Machine(door(), {LIKE: 0.001, FEED: 0.010})
    capacity = 1 / (0.8 * 0.001 + 0.2 * 0.010)
    arrived, owed = 0, 0.0
    for ms in range(20_000):
        owed += capacity / 1000 * (0.5 if ms < 2_000 else times)
        arriving = []
        while owed >= 1:
            arriving.append(FEED if arrived % 5 == 0 else LIKE)
            arrived, owed = arrived + 1, owed - 1
        if ms == 10_000:
            machine.latencies_s.clear()
            machine.worked_s = 0.0
        machine.millisecond(arriving)
    assert machine.worked_s / 10 > 0.95 * min(times, 1)
    assert sorted(machine.latencies_s)[len(machine.latencies_s) * 99 // 100] < 0.25
    assert (machine.refused > 0) == (times > 1)
