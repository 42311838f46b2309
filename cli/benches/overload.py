"""`overload`: what is left of the answers when more is asked than two processes can do.

The capacity is found first: the offered rate rises until the good answers no longer do, and the
best rates are tried again. Then half of it to three times it is offered, an open-loop mix, to two
server processes that admit and to two that let all in, both before all else (`grpc_realtime`), as
on cores of their own; and twice it to two that ask for niceness alone (the default) and to two
without priority. The load of the peak and twice the capacity take turns, since the machine changes;
then twice it becomes half of it, until answers are as before. The views must hold exactly the likes
that were acknowledged. Draws a chart.
"""

import contextlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cli.benches import cpu
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Row
from cli.benches.generating import Generating, generating
from cli.benches.generator import Done, Turn, World
from cli.benches.overload_rows import (
    ADMITS,
    EQUAL,
    GOOD_MS,
    NICE,
    OPEN,
    SESSIONS,
    TIMES,
    TWICE,
    Likes,
    Taken,
    line,
    rows_of,
)
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

# Where nobody says how many: below the ten minutes that three take.
ROUNDS = 2
SERVERS_EACH = 2
_GRAPH = GRAPHS / "twitch-pt.follows.gz"
_POSTS_EACH = 4
_CATCH_UP_S = 120.0
# Every change of load has so long to settle before it is counted.
_WARM_S = 1.0
_FIRST_RATE, _STEP, _RATE_MAX = 150.0, 1.25, 20_000.0
# A rate that brings less than this more good answers is past the peak.
_GROWTH_MIN = 1.03
# The best so many rates of the search are tried so many times again.
_CONFIRMED, _CONFIRMATIONS = 3, 2
_RECOVERY_S = 12
_CALM = TIMES[0]
_GOOD_SHARE, _P99_TIMES = 0.97, 1.25
_PROCESSORS = ("projector", "fanout")
_PAIRS = 3
_FIRST = {"MILLRACE_GRPC_REALTIME": "true"}
_OPTIONS = {
    ADMITS: _FIRST,
    OPEN: {**_FIRST, "MILLRACE_ADMISSION_DELAY_MS": "0"},
    NICE: {},
    EQUAL: {"MILLRACE_GRPC_NICE": "0"},
}


@dataclass(frozen=True, slots=True)
class _Server:
    address: str
    metrics_port: int


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
        self.likes = Likes()

    def serve(self, name: str, servers: list[_Server]) -> None:
        self._servers[name] = servers
        names = [*SERVERS, *_PROCESSORS, *(f"{name}-{n}" for n in range(SERVERS_EACH))]
        self._pids |= {self._stand.pid(one): one for one in names}
        self._pids[self._generator.pid] = "generator"

    async def steady(self, name: str, times: float, rate: float) -> Taken:
        return await self.turn(name, times, _WARM_S, (rate, _WARM_S + self._seconds))

    async def turn(
        self, name: str, times: float, warm_s: float, *phases: tuple[float, float]
    ) -> Taken:
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
        taken = Taken(times, done, cores, limits, waited)
        self._stand.told(f"{name}: {line(taken)}")
        return taken

    def _waited_s(self, name: str) -> list[float]:
        return [cpu.waited_s(self._stand.pid(f"{name}-{n}")) for n in range(SERVERS_EACH)]

    async def capacity(self) -> float:
        """The most good answers a second where all are let in: rates rise by a quarter until two of
        them brought no more; then the best few are tried again, for one turn may be a lucky one.
        """
        found: dict[float, list[float]] = {}
        best, rate, tired = 0.0, _FIRST_RATE, 0
        while rate < _RATE_MAX and tired < 2:
            found[rate] = [(await self.steady(OPEN, 0.0, rate)).point.good]
            tired = tired + 1 if found[rate][0] < best * _GROWTH_MIN else 0
            best, rate = max(best, *found[rate]), rate * _STEP
        if tired < 2:
            raise MillraceError(f"more than {_RATE_MAX:.0f} calls/s are no load for these servers")
        again = sorted(found, key=lambda rate: found[rate][0])[-_CONFIRMED:]
        for _ in range(_CONFIRMATIONS):
            for rate in again:
                found[rate].append((await self.steady(OPEN, 0.0, rate)).point.good)
        return max(statistics.median(found[rate]) for rate in again)

    async def curves(self, capacity: float) -> dict[str, list[Taken]]:
        """Side by side, so that what else the machine does falls on all."""
        found: dict[str, list[Taken]] = {name: [] for name in _OPTIONS}
        for times in TIMES:
            for name, points in found.items():
                if name in (ADMITS, OPEN) or times == TWICE:
                    points.append(await self.steady(name, times, capacity * times))
        return found

    async def kept(self, capacity: float, admitting: Sequence[Taken]) -> list[float]:
        """Good answers at twice the capacity, as shares of those of the peak's load just before."""
        below = (taken for taken in admitting if taken.times < TWICE)
        best = max(below, key=lambda taken: taken.point.good).times
        shares = []
        for _ in range(_PAIRS):
            peak = await self.steady(ADMITS, best, capacity * best)
            twice = await self.steady(ADMITS, TWICE, capacity * TWICE)
            shares.append(twice.point.good / peak.point.good)
        return shares

    async def recovery(self, capacity: float, calm: Done, after: float) -> float:
        """Seconds of half the capacity, after so many times of it, until three in a row were as
        before it: each in its good answers, the middle one of them in p99, which is the second
        worst of some 200 calls and high by chance now and then.
        """
        before_s = max(int(self._seconds), 3)
        phases = ((after * capacity, before_s), (capacity * _CALM, _RECOVERY_S))
        taken = await self.turn(ADMITS, after, 0.0, *phases)
        p99_max = _P99_TIMES * max(p99 for _, _, p99 in calm.buckets)
        seconds = taken.done.buckets[before_s:]
        threes = [seconds[n : n + 3] for n in range(len(seconds) - 2)]
        begins = (
            n
            for n, three in enumerate(threes)
            if all(good >= _GOOD_SHARE * offered for offered, good, _ in three)
            and statistics.median(p99 for _, _, p99 in three) <= p99_max
        )
        return float(next(begins, _RECOVERY_S))


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
        sessions = await log_in(servers[ADMITS][0].address, persons)
        world = World([session.access_token for session in sessions], user_ids, media_ids)
        generator = await opened.enter_async_context(generating(world))
        bench = _Bench(stand, stores, generator, effort)
        for name, of_it in servers.items():
            bench.serve(name, of_it)

        capacity = await bench.capacity()
        told(f"capacity: {capacity:.0f} good answers/s")
        rounds, recoveries, as_calm, kept = [], [], [], []
        for _ in range(effort.rounds):
            rounds.append(await bench.curves(capacity))
            kept += await bench.kept(capacity, rounds[-1][ADMITS])
            calm = rounds[-1][ADMITS][0].done
            recoveries.append(await bench.recovery(capacity, calm, TWICE))
            as_calm.append(await bench.recovery(capacity, calm, _CALM))
        wrong = await _wrong(stores, bench.likes, [session.user_id for session in sessions], world)
    return rows_of(effort, capacity, rounds, kept, recoveries, as_calm, bench.likes, wrong)


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
    stores: OpenStores, likes: Likes, user_ids: Sequence[int], world: World
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
