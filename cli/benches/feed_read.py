"""`feed-read`: GetFeed of 30 items at half of the peak that this run found.

Open loop: reads begin at fixed times, and a latency counts from the intended start. The bare
part is one page of 30 materialised rows read from Cassandra by its driver, at the same rate.
"""

import asyncio
import contextlib
import time
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

from cli.benches.caller import Turn
from cli.benches.calling import Calling, calling, metadata_of
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row, time_row
from cli.benches.population import append_posts, load_people, log_in, posts_of
from cli.benches.stand import Stand, Told, Watch
from cli.stores import open_stores
from millrace.clock import SystemClock
from millrace.errors import Bug
from millrace.ids import IdMint
from millrace.settings import Settings
from millrace.traffic.graph import read_graph
from millrace.views import lag

AT_ONCE = 64
READERS = 64
PAGE_ITEMS = 30
_POSTS_EACH = 4
_GRAPH = GRAPHS / "twitch-pt.follows.gz"
_CATCH_UP_S = 150.0
_PROCESSES = ("projector", "fanout", "grpc-0", "grpc-1")
# The bare part asks for no priority.
_ENVIRONMENT = {"MILLRACE_GRPC_NICE": "0"}
_PAGE = "SELECT media_id, author_id FROM feed_by_user WHERE user_id = ? LIMIT 30"


async def run(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand("feed-read", effort, told, processes=_PROCESSES, environment=_ENVIRONMENT) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        address = stand.settings.grpc_address
        following = read_graph(effort.graph or _GRAPH)
        user_ids = await _load(stand, following)
        readers = _readers(following)
        told(f"{len(readers)} people log in")
        sessions = await log_in(address, readers)
        caller = await opened.enter_async_context(calling(stand))
        turn = partial(Turn, address, "feed", effort.seconds, metadata=metadata_of(sessions))

        async def peak(_number: int) -> Round:
            return await _read(caller, turn(at_once=AT_ONCE), full=True)

        peaks = (await stand.rounds(2, {"peak": peak}))["peak"]
        rate = max(one.rate for one in peaks) / 2
        bare = _BarePages(
            opened.enter_context(_session(stand.settings)),
            [user_ids[person] for person in readers],
            rate,
            effort.seconds,
        )

        async def half(_number: int) -> Round:
            return await _read(caller, turn(rate=rate), full=True)

        found = await stand.rounds(effort.rounds, {"GetFeed": half, "bare page": bare.turn})
    return _rows(found, peaks, rate, following, len(readers))


def _rows(
    found: dict[str, list[Round]],
    peaks: list[Round],
    rate: float,
    following: list[list[int]],
    readers: int,
) -> list[Row]:
    mean = sum(map(len, following)) / len(following)
    note = (
        f"GetFeed of {PAGE_ITEMS} items, {readers} readers of a graph where people follow"
        f" {mean:.0f} on average, open loop at {rate:.0f}/s, half of this run's peak, latency from"
        " the intended start; two server processes; bare part: one page of 30 rows from Cassandra"
    )
    same = "the same calls as `feed read p50`"
    busiest = f"closed loop, {AT_ONCE} at once: the peak of which half is driven"
    reads, pages = found["GetFeed"], found["bare page"]
    return [
        time_row("feed read p50", "p50", reads, pages, note),
        time_row("feed read p99", "p99", reads, pages, same),
        rate_row("feed read peak", "reads/s", peaks, (), busiest),
    ]


async def _load(stand: Stand, following: list[list[int]]) -> list[int]:
    clock = SystemClock()
    async with open_stores(stand.settings) as stores:
        user_ids = await load_people(stand, stores.log, following)
        stand.told("the views catch up, then posts are fanned out")
        await lag.wait_until_none(stores, clock, timeout_s=_CATCH_UP_S)
        mint = IdMint(clock)
        for _ in range(_POSTS_EACH):
            await append_posts(stores.log, posts_of(user_ids, mint, stores.log.partitions), clock)
        await lag.wait_until_none(stores, clock, timeout_s=_CATCH_UP_S)
    return user_ids


def _readers(following: list[list[int]]) -> list[int]:
    """People whose feeds fill a page, evenly from those with few followees to those with many."""
    full = [p for p, others in enumerate(following) if (len(others) + 1) * _POSTS_EACH > PAGE_ITEMS]
    full.sort(key=lambda person: len(following[person]))
    return [full[i] for i in np.linspace(0, len(full) - 1, min(READERS, len(full)), dtype=int)]


async def _read(caller: Calling, turn: Turn, *, full: bool) -> Round:
    done = await caller.take(turn)
    if full and done.items != done.calls * PAGE_ITEMS:
        raise Bug(f"{done.calls} pages had {done.items} items")
    return Round(done.calls, done.seconds, quantiles_ms=done.quantiles_ms)


@contextlib.contextmanager
def _session(settings: Settings) -> Any:
    profile = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM)
    cluster = Cluster(
        settings.cassandra_hosts.split(","),
        port=settings.cassandra_port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=4,
    )
    try:
        yield cluster.connect(settings.cassandra_keyspace)
    finally:
        cluster.shutdown()


class _BarePages:
    """Open loop as the caller's, in the bench's own process."""

    def __init__(self, session: Session, user_ids: list[int], rate: float, seconds: float) -> None:
        self._session = session
        self._page = session.prepare(_PAGE)
        self._users = cycle(user_ids)
        self._rate = rate
        self._count = int(rate * seconds)

    async def turn(self, _number: int) -> Round:
        watch, start_s = Watch(), time.perf_counter()
        reads = []
        for number in range(self._count):
            intended_s = start_s + number / self._rate
            if (left_s := intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            reads.append(self._begin(intended_s))
        latencies_s = await asyncio.gather(*reads)
        p50, p99 = np.quantile(latencies_s, (0.5, 0.99))
        quantiles_ms = {"p50": float(p50) * 1000, "p99": float(p99) * 1000}
        return Round(self._count, watch.seconds, quantiles_ms=quantiles_ms)

    def _begin(self, intended_s: float) -> asyncio.Future[float]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[float] = loop.create_future()
        reading = self._session.execute_async(self._page, (next(self._users),))

        def answered(_rows: object) -> None:
            loop.call_soon_threadsafe(done.set_result, time.perf_counter() - intended_s)

        def failed(error: Exception) -> None:
            loop.call_soon_threadsafe(done.set_exception, error)

        reading.add_callbacks(answered, failed)
        return done
