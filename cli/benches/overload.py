"""`overload`: what is left of the answers when more is asked than two processes can do.

The capacity is found first: the offered rate rises until the good answers no longer do. Then half
of it to three times it is offered, an open-loop mix, to two server processes that admit and to two
that let all in, both before all else (`grpc_realtime`), as on cores of their own; and twice it to
two that ask for niceness alone (the default) and to two without priority. The load of the peak and
twice the capacity take turns, since the machine changes; then twice it becomes half of it, until
answers are as before. The views must hold exactly the likes that were acknowledged. Draws a chart.
"""

import contextlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.benches import cpu
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Row, machine
from cli.benches.generating import Generating, generating
from cli.benches.generator import CONNECTIONS, MIX, Done, Turn, World
from cli.benches.overload_chart import Point, draw
from cli.benches.population import append_posts, load_people, log_in, posts_of
from cli.benches.scrape import counted
from cli.benches.stand import Stand, Told, Watch
from cli.processes import ROOT, healthy
from cli.stores import OpenStores, open_stores
from deploy.local.child import Child
from deploy.local.ports import LOOPBACK
from deploy.local.stack import SERVERS
from millrace.clock import SystemClock
from millrace.errors import MillraceError
from millrace.ids import IdMint
from millrace.traffic.graph import read_graph
from millrace.views import lag
from millrace.views.likes import LIKES

GOOD_MS = 500.0
TIMES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
# Where nobody says how many: all of it ends within five minutes.
ROUNDS = 2
SESSIONS = 128
SERVERS_EACH = 2
_GRAPH = GRAPHS / "twitch-pt.follows.gz"
_POSTS_EACH = 4
_CATCH_UP_S = 120.0
# Every change of load has so long to settle before it is counted.
_WARM_S = 1.0
_FIRST_RATE, _STEP, _RATE_MAX = 150.0, 1.25, 20_000.0
# A rate that brings less than this more good answers is past the peak.
_GROWTH_MIN = 1.03
_TWICE = 2.0
_RECOVERY_S = 12
_GOOD_SHARE, _P99_TIMES = 0.97, 1.25
_PROCESSORS = ("projector", "fanout")
_PAIRS = 3
_FIRST = {"MILLRACE_GRPC_REALTIME": "true"}
_ADMITS, _OPEN, _NICE, _EQUAL = "admission", "all let in", "niceness", "no priority"
_OPTIONS = {
    _ADMITS: _FIRST,
    _OPEN: {**_FIRST, "MILLRACE_ADMISSION_DELAY_MS": "0"},
    _NICE: {},
    _EQUAL: {"MILLRACE_GRPC_NICE": "0"},
}


@dataclass(slots=True)
class _Likes:
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


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    metrics_port: int


@dataclass(slots=True)
class _Taken:
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


class _Bench:
    def __init__(
        self, stand: Stand, stores: OpenStores, generator: Generating, effort: Effort
    ) -> None:
        self._stand = stand
        self._stores = stores
        self._generator = generator
        self._seconds = effort.seconds
        self._servers: dict[str, list[_Server]] = {}
        self._pids: dict[int, str] = {}
        self.likes = _Likes()

    def serve(self, name: str, servers: list[_Server]) -> None:
        self._servers[name] = servers
        names = [*SERVERS, *_PROCESSORS, *(f"{name}-{n}" for n in range(SERVERS_EACH))]
        self._pids |= {self._stand.pid(one): one for one in names}
        self._pids[self._generator.pid] = "generator"

    async def steady(self, name: str, times: float, rate: float) -> _Taken:
        return await self.turn(name, times, _WARM_S, (rate, _WARM_S + self._seconds))

    async def turn(
        self, name: str, times: float, warm_s: float, *phases: tuple[float, float]
    ) -> _Taken:
        """Returns when everything is applied, so that no turn begins with another's backlog."""
        before, waited_s, watch = cpu.spent_us(self._pids), self._waited_s(name), Watch()
        addresses = [server.address for server in self._servers[name]]
        done = await self._generator.take(Turn(addresses, list(phases), GOOD_MS, warm_s))
        after, seconds = cpu.spent_us(self._pids), watch.seconds
        waited = [
            (now_s - then_s) / seconds
            for now_s, then_s in zip(self._waited_s(name), waited_s, strict=True)
        ]
        ports = [server.metrics_port for server in self._servers[name]]
        limits = [await counted(port, "millrace_admission_limit_calls") for port in ports]
        self.likes.add(done)
        await lag.wait_until_none(self._stores, SystemClock(), timeout_s=_CATCH_UP_S)
        cores = {who: (us - before.get(who, 0)) / 1e6 / seconds for who, us in after.items()}
        taken = _Taken(times, done, cores, limits, waited)
        self._stand.told(f"{name}: {_line(taken)}")
        return taken

    def _waited_s(self, name: str) -> list[float]:
        return [cpu.waited_s(self._stand.pid(f"{name}-{n}")) for n in range(SERVERS_EACH)]

    async def capacity(self) -> float:
        """The most good answers a second where all are let in, of rates that rise by a quarter,
        until two of them brought no more.
        """
        best, rate, tired = 0.0, _FIRST_RATE, 0
        while rate < _RATE_MAX:
            good = (await self.steady(_OPEN, 0.0, rate)).point.good
            tired = tired + 1 if good < best * _GROWTH_MIN else 0
            best, rate = max(best, good), rate * _STEP
            if tired == 2:
                return best
        raise MillraceError(f"more than {_RATE_MAX:.0f} calls/s are no load for these processes")

    async def curves(self, capacity: float) -> dict[str, list[_Taken]]:
        """Side by side, so that what else the machine does falls on all."""
        found: dict[str, list[_Taken]] = {name: [] for name in _OPTIONS}
        for times in TIMES:
            for name, points in found.items():
                if name in (_ADMITS, _OPEN) or times == _TWICE:
                    points.append(await self.steady(name, times, capacity * times))
        return found

    async def kept(self, capacity: float, admitting: Sequence[_Taken]) -> list[float]:
        """Good answers at twice the capacity, as shares of those of the peak's load just before."""
        below = (taken for taken in admitting if taken.times < _TWICE)
        best = max(below, key=lambda taken: taken.point.good).times
        shares = []
        for _ in range(_PAIRS):
            peak = await self.steady(_ADMITS, best, capacity * best)
            twice = await self.steady(_ADMITS, _TWICE, capacity * _TWICE)
            shares.append(twice.point.good / peak.point.good)
        return shares

    async def recovery(self, capacity: float, calm: Done) -> tuple[float, _Taken]:
        """Seconds of half the capacity, after twice, until three in a row were as before it."""
        before_s = max(int(self._seconds), 3)
        phases = ((2 * capacity, before_s), (capacity / 2, _RECOVERY_S))
        taken = await self.turn(_ADMITS, _TWICE, 0.0, *phases)
        p99_max = _P99_TIMES * max(p99 for _, _, p99 in calm.buckets)
        after = taken.done.buckets[before_s:]
        fine = [good >= _GOOD_SHARE * offered and p99 <= p99_max for offered, good, p99 in after]
        begins = (n for n in range(len(fine) - 2) if all(fine[n : n + 3]))
        return float(next(begins, _RECOVERY_S)), taken


async def run(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand("overload", effort, told, processes=_PROCESSORS) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        stores = await opened.enter_async_context(open_stores(stand.settings))
        following = read_graph(effort.graph or _GRAPH)
        user_ids, media_ids = await _load(stand, stores, following)
        servers = {name: await _servers(stand, name) for name in _OPTIONS}
        told(f"{SESSIONS} people log in")
        persons = range(min(SESSIONS, len(user_ids)))
        sessions = await log_in(servers[_ADMITS][0].address, persons)
        world = World([session.access_token for session in sessions], user_ids, media_ids)
        generator = await opened.enter_async_context(generating(world))
        bench = _Bench(stand, stores, generator, effort)
        for name, of_it in servers.items():
            bench.serve(name, of_it)

        capacity = await bench.capacity()
        told(f"capacity: {capacity:.0f} good answers/s")
        rounds, recoveries, kept = [], [], []
        for _ in range(effort.rounds):
            rounds.append(await bench.curves(capacity))
            kept += await bench.kept(capacity, rounds[-1][_ADMITS])
            calm = rounds[-1][_ADMITS][0].done
            recoveries.append((await bench.recovery(capacity, calm))[0])
        wrong = await _wrong(stores, bench.likes, [session.user_id for session in sessions], world)
    return _rows(effort, capacity, rounds, kept, recoveries, bench.likes, wrong)


async def _load(
    stand: Stand, stores: OpenStores, following: list[list[int]]
) -> tuple[list[int], list[int]]:
    clock = SystemClock()
    user_ids = await load_people(stand, stores.log, following)
    mint, posts = IdMint(clock), []
    await lag.wait_until_none(stores, clock, timeout_s=_CATCH_UP_S)
    for _ in range(_POSTS_EACH):
        posts += posts_of(user_ids, mint, stores.log.partitions)
    await append_posts(stores.log, posts, clock)
    await lag.wait_until_none(stores, clock, timeout_s=_CATCH_UP_S)
    return user_ids, [post.media_id for post in posts]


async def _servers(stand: Stand, name: str) -> list[_Server]:
    """Two processes, each on an address of its own, as a load balancer would see them."""
    servers = []
    for number in range(SERVERS_EACH):
        port = stand.port(f"{name}-{number}")
        metrics_port = stand.port(f"{name}-{number}.metrics")
        servers.append(_Server(f"{LOOPBACK}:{port}", metrics_port))
        environment = {
            "MILLRACE_STACK_FILE": stand.settings.stack_file,
            "MILLRACE_GRPC_ADDRESS": servers[-1].address,
            "MILLRACE_METRICS_PORT": str(metrics_port),
            "MILLRACE_WORKER": str(number),
            **_OPTIONS[name],
        }
        await stand.add(
            Child(
                name=f"{name}-{number}",
                argv=(sys.executable, "-m", "services"),
                ready=lambda port=port: healthy(port),  # type: ignore[misc]
                env=environment,
                cwd=ROOT,
            )
        )
    return servers


async def _wrong(
    stores: OpenStores, likes: _Likes, user_ids: Sequence[int], world: World
) -> dict[str, int]:
    """Acknowledged likes that are not in the view; likes in it that were ended, or refused."""
    place = {user_id: session for session, user_id in enumerate(user_ids)}
    items = {media_id: item for item, media_id in enumerate(world.media_ids)}
    found = set()
    async for edge in stores.views.scan_edges(LIKES.table):
        session = place[edge.target]
        turn = (items[edge.source] - session * 131) % len(items)
        found.add(turn * len(user_ids) + session)
    return {
        "lost": len(likes.standing - likes.ended - likes.unknown - found),
        "ended": len((likes.ended - likes.unknown) & found),
        "refused": len(likes.refused & found),
    }


def _rows(
    effort: Effort,
    capacity: float,
    rounds: list[dict[str, list[_Taken]]],
    kept: list[float],
    recoveries: list[float],
    likes: _Likes,
    wrong: Mapping[str, int],
) -> list[Row]:
    points = {
        name: [taken.point for one in rounds for taken in one[name]] for name in (_ADMITS, _OPEN)
    }
    peaks = [
        max(taken.point.good for name in (_ADMITS, _OPEN) for taken in one[name]) for one in rounds
    ]
    twice, open_twice, nice_twice, equal_twice = (
        [taken for one in rounds for taken in one[name] if taken.times == _TWICE]
        for name in (_ADMITS, _OPEN, _NICE, _EQUAL)
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
        _row("answers at 2x, p99", "ms", answers, _line(twice[-1]), list(map(_p99, open_twice))),
        _refusals("refusals at 2x, p99", twice),
        _refusals("refusals at 2x, p99, niceness", nice_twice),
        _refusals("refusals at 2x, p99, no priority", equal_twice),
        _row("recovery", "s", recoveries, "from 2 to 0.5 times: until goodput and p99 are as calm"),
        _row(
            "acknowledged, lost",
            "likes",
            [float(wrong["lost"])],
            f"{seen}, and {wrong['refused']} that were refused, are in the view",
        ),
    ]


def _refusals(name: str, taken: Sequence[_Taken]) -> Row:
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
        ratio = limit / value if unit == "ms" else value / limit
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


def _p99(taken: _Taken) -> float:
    return taken.done.answers_ms.get("p99", 0.0)


def _line(taken: _Taken) -> str:
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
