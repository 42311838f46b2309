"""How many calls a process works on at once: a limit that follows how late they are.

A call is late when it took `admission_delay_ms` longer than its RPC usually does. While most are
late, or none of the last knocks at the door (services/knocking.py) was heard within
`admission_heard_ms`, fewer are let in; while few are late and all places are taken, more. Why so:
docs/adr/admission.md.

The measure is time alone, so a machine that is busy, a PostgreSQL that is slow and a log that
does not acknowledge all count, and a feed read weighs as long as it takes. The calls under way
are the queue: nobody else waits, and who is not let in is told so at once.

Not: streams that stay open, which need a free place to begin and take none; fairness between
users (services/rates.py).
"""

from collections import deque
from dataclasses import dataclass

from millrace.clock import Clock
from millrace.observe import metrics
from millrace.settings import Settings

# They lessen load or protect somebody: refused when twice the limit is under way, not before.
URGENT = frozenset(
    {
        "/social.v1.UsersService/LogOut",
        "/social.v1.UsersService/RefreshToken",
        "/social.v1.UsersService/ChangePassword",
        "/social.v1.UsersService/DeactivateUser",
        "/social.v1.MediaService/DeleteMedia",
        "/social.v1.CommentsService/DeleteComment",
        "/social.v1.FollowsService/Unfollow",
    }
)

# One RPC takes at most this share of the places, so that a store that only it reads does not
# take all of them; where there are few, the other, since they are what it does not go below.
_SHARE_MAX, _SHARE_OF_FEW = 0.5, 0.75
# Above this share of late calls the limit falls, below the other it may rise.
_LATE_MANY, _LATE_FEW = 0.5, 0.25
_FALL, _RISE = 0.8, 1.1
# Of so many knocks none was heard in time: calls stand in a queue. One alone may be chance.
_KNOCKS = 4
# How fast an RPC's usual time follows what is measured, an interval: to a lower mean; to a higher
# one while so few are under way that they do not make each other late; and while they may (0.1 s:
# doubles in 14 minutes). So an overload of some minutes is not taken for the usual, and a store
# that became slow for good is in the end.
_LEARN_DOWN, _LEARN_UP, _CREEP = 0.3, 0.05, 0.00008


@dataclass(slots=True)
class _Kind:
    """What one RPC does. `usual_s`: its mean time while the process is not overloaded."""

    urgent: bool
    running: int = 0
    usual_s: float = 0.0
    sum_s: float = 0.0
    count: int = 0


class Admission:
    """`limit` is between `admission_calls_min` and `grpc_calls_max`; every operation is O(1),
    but for one a `admission_interval_ms`, which looks at each RPC.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._delay_s = settings.admission_delay_ms / 1000
        self._interval_s = settings.admission_interval_ms / 1000
        self._most = settings.grpc_calls_max
        self._least = min(settings.admission_calls_min, self._most)
        self.limit = float(min(settings.admission_calls_start, self._most))
        self.running = self._entering = 0
        self._kinds: dict[str, _Kind] = {}
        self._began_s = clock.monotonic_s()
        self._peak = self._ended = self._late = 0
        self._full = False
        self._heard_max_s = settings.admission_heard_ms / 1000
        self._knocked_s: float | None = None
        self._waits_s: deque[float] = deque(maxlen=_KNOCKS)
        metrics.ADMISSION_LIMIT.set_function(lambda: self.limit)

    def admits(self, path: str) -> bool:
        """Whether one more of this RPC may begin. Always, where admission is switched off."""
        if not self._delay_s:
            return True
        self._look()
        kind = self._kind(path)
        # Who was let in begins when gRPC has received his request.
        taken = self.running + self._entering
        share = max(self.limit * _SHARE_MAX, min(self.limit, self._least) * _SHARE_OF_FEW)
        admitted = taken < self.limit and kind.running < share
        self._full |= not admitted
        admitted |= kind.urgent and taken < 2 * self.limit
        self._entering += admitted
        return admitted

    def begin(self, path: str) -> None:
        self._entering = max(self._entering - 1, 0)
        self._kind(path).running += 1
        self.running += 1
        self._peak = max(self._peak, self.running)

    def end(self, path: str, seconds: float, *, ok: bool) -> None:
        """`ok`: it did its work, so that its time tells what such work takes."""
        kind = self._kind(path)
        kind.running -= 1
        self.running -= 1
        if ok:
            kind.sum_s += seconds
            kind.count += 1
        late = seconds > kind.usual_s + self._delay_s
        self._late += late
        self._ended += ok or late
        self._look()

    def knocked(self) -> None:
        self._knocked_s = self._clock.monotonic_s()

    def heard(self) -> None:
        """The last knock was."""
        if self._knocked_s is not None:
            self._waits_s.append(self._clock.monotonic_s() - self._knocked_s)
            self._knocked_s = None

    def _kind(self, path: str) -> _Kind:
        if (kind := self._kinds.get(path)) is None:
            kind = self._kinds[path] = _Kind(path in URGENT)
        return kind

    def _look(self) -> None:
        """Once an interval: what came of the limit, and what it is from now on."""
        now_s = self._clock.monotonic_s()
        if not self._delay_s or now_s - self._began_s < self._interval_s:
            return
        # None ended though there was work: they wait for something.
        share = self._late / self._ended if self._ended else float(self.running > 0)
        if self._knocked_s is not None:
            self._waits_s.append(now_s - self._knocked_s)
        heard = len(self._waits_s) < _KNOCKS or min(self._waits_s) <= self._heard_max_s
        used = self._peak >= self.limit / 2
        if not heard and self._peak:
            # From what was under way: gRPC itself may let in fewer than the limit. And as far as
            # it must: the queue is not ours, and to refuse it is the way to the end of it.
            self.limit = max(min(self.limit, self._peak) * _FALL, 1)
        elif used and share > _LATE_MANY:
            self.limit = max(self.limit * _FALL, self._least)
        elif self._full and heard and share < _LATE_FEW:
            self.limit = min(max(self.limit * _RISE, self.limit + 1), self._most)
        self._learn(room=heard and not self._full and not used)
        self._began_s, self._peak, self._full = now_s, self.running, False
        self._ended = self._late = 0
        # Some never come: their clients have gone.
        self._entering = 0

    def _learn(self, *, room: bool) -> None:
        for kind in self._kinds.values():
            if not kind.count:
                continue
            mean_s = kind.sum_s / kind.count
            if not kind.usual_s:
                kind.usual_s = mean_s
            elif mean_s < kind.usual_s:
                kind.usual_s += (mean_s - kind.usual_s) * _LEARN_DOWN
            elif room:
                kind.usual_s += (mean_s - kind.usual_s) * _LEARN_UP
            else:
                kind.usual_s = min(kind.usual_s * (1 + _CREEP), mean_s)
            kind.sum_s, kind.count = 0.0, 0
