"""What came of the turns of `overload`: the rows of figures, and the chart."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.benches.effort import Effort
from cli.benches.figures import Row, machine
from cli.benches.generator import CONNECTIONS, MIX, Done
from cli.benches.overload_chart import Point, draw

GOOD_MS = 500.0
TIMES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
TWICE = 2.0
SESSIONS = 128
ADMITS, OPEN, NICE, EQUAL = "admission", "all let in", "niceness", "no priority"


@dataclass(slots=True)
class Likes:
    """What the callers were told of their likes, in pairs."""

    standing: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)

    def add(self, done: Done) -> None:
        self.standing |= set(done.liked)
        self.ended |= set(done.unliked)
        self.refused |= set(done.refused)
        self.unknown |= set(done.unknown)


@dataclass(slots=True)
class Taken:
    """One turn: what was offered in times of the capacity, what came, the cores that each process
    took, the calls that were admitted at its end, and the share of the time that each server
    process waited for a core.
    """

    times: float
    done: Done
    cores: dict[str, float]
    limits: list[float]
    waited: list[float]

    @property
    def point(self) -> Point:
        done = self.done
        answered, refused = done.codes.get("0", 0), done.codes.get("8", 0)
        counts = (done.offered, done.good, answered, refused)
        return Point(self.times, *(count / done.seconds for count in counts))


def rows_of(
    effort: Effort,
    capacity: float,
    rounds: list[dict[str, list[Taken]]],
    kept: list[float],
    recoveries: list[float],
    as_calm: list[float],
    likes: Likes,
    wrong: Mapping[str, int],
) -> list[Row]:
    points = {
        name: [taken.point for one in rounds for taken in one[name]] for name in (ADMITS, OPEN)
    }
    peaks = [
        max(taken.point.good for name in (ADMITS, OPEN) for taken in one[name]) for one in rounds
    ]
    twice, open_twice, nice_twice, equal_twice = (
        [taken for one in rounds for taken in one[name] if taken.times == TWICE]
        for name in (ADMITS, OPEN, NICE, EQUAL)
    )
    peak = statistics.median(peaks)
    draw(points, peak, capacity, GOOD_MS, effort.build / "overload.png")
    mix = ", ".join(f"{share} % {name}" for name, share in MIX.items())
    note = (
        f"open loop, Poisson, {len(TIMES)} loads of {TIMES[0]} to {TIMES[-1]} times the"
        f" capacity; {mix}; {SESSIONS} sessions on {CONNECTIONS} connections, each sends its last"
        f" position; good: within {GOOD_MS:.0f} ms of the intended start; two server processes"
        f" that have a turn before all else; {len(kept)} times right after the load of the peak;"
        f" everything on {machine()['cores']} cores, the generator included"
        f" ({twice[0].cores.get('generator', 0.0):.2f} cores of them at twice); peak of each round"
        f" {', '.join(f'{one:.0f}' for one in peaks)}/s, capacity {capacity:.0f}/s; bare part: all"
        " let in"
    )
    answers = [_p99(taken) for taken in twice]
    seen = f"of {len(likes.standing):,} acknowledged likes; also {wrong['ended']} that were ended"
    return [
        _row(
            "goodput at 2x",
            "of peak",
            kept,
            note,
            [taken.point.good / top for taken, top in zip(open_twice, peaks, strict=True)],
        ),
        _row("answers at 2x, p99", "ms", answers, line(twice[-1]), list(map(_p99, open_twice))),
        _refusals("refusals at 2x, p99", twice),
        _refusals("refusals at 2x, p99, niceness", nice_twice),
        _refusals("refusals at 2x, p99, no priority", equal_twice),
        _row(
            "recovery",
            "s",
            recoveries,
            "from 2 to 0.5 times: until goodput and p99 are as calm three seconds long; bare part:"
            " the same where 0.5 times was before it, too",
            as_calm,
        ),
        _row(
            "acknowledged, lost",
            "likes",
            [float(wrong["lost"])],
            f"{seen}, and {wrong['refused']} that were refused, are in the view",
        ),
    ]


def _refusals(name: str, taken: Sequence[Taken]) -> Row:
    """From the intended start; `onset`: in the second that the load took to settle."""
    p50, onset, waited = (
        statistics.median(values)
        for values in (
            [one.done.refusals_ms.get("p50", 0.0) for one in taken],
            [one.done.onset_ms.get("p99", 0.0) for one in taken],
            [share for one in taken for share in one.waited],
        )
    )
    note = (
        f"p50 {p50:.1f} ms; onset p99 {onset:.1f} ms; a server process waited for a core"
        f" {waited:.2f} of the time; sent late p99 {max(one.done.late_ms for one in taken):.1f} ms"
    )
    return _row(name, "ms", [one.done.refusals_ms.get("p99", 0.0) for one in taken], note)


def _row(
    name: str, unit: str, values: Sequence[float], note: str, bare: Sequence[float] = ()
) -> Row:
    value = statistics.median(values)
    limit = statistics.median(bare) if bare else None
    ratio = None
    if limit and value:
        ratio = limit / value if unit in ("ms", "s") else value / limit
    return Row(
        name,
        value,
        unit,
        limit=limit,
        ratio=ratio,
        spread=(min(values), max(values)),
        limit_spread=(min(bare), max(bare)) if bare else None,
        rounds=len(values),
        note=note,
        machine=machine(),
    )


def _p99(taken: Taken) -> float:
    return taken.done.answers_ms.get("p99", 0.0)


def line(taken: Taken) -> str:
    point, done = taken.point, taken.done
    busy = ", ".join(f"{who} {cores:.2f}" for who, cores in sorted(taken.cores.items()))
    return (
        f"{taken.times}x offered {point.offered:.0f}/s good {point.good:.0f} answered"
        f" {point.answered:.0f} refused {point.refused:.0f};"
        f" answers p50 {done.answers_ms.get('p50', 0):.0f} p99 {_p99(taken):.0f} ms, refusals p50"
        f" {done.refusals_ms.get('p50', 0):.1f} p99 {done.refusals_ms.get('p99', 0):.1f} ms"
        f" (onset p99 {done.onset_ms.get('p99', 0):.1f}),"
        f" sent late p99 {done.late_ms:.1f} ms; codes {done.codes}; admitted"
        f" at the end {' and '.join(f'{limit:.0f}' for limit in taken.limits)}; waited for a core"
        f" {' and '.join(f'{share:.2f}' for share in taken.waited)}; cores: {busy}"
    )
