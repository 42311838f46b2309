"""`fanout`: a backlog of posts becomes rows of feeds, by the fan-out process of the product.

Each round a share of the authors of a real graph post once. The process is held (SIGSTOP) until
the media view has the posts, so that it finds a backlog; from there on it plans, writes chunks
and delivers. Sides: that; the bare part (`bare_rows`) writing the same rows; delivery alone, from
the same chunks, without planner and Faust.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cli.benches.backlog import Backlog, followed
from cli.benches.bare_rows import BareRows, bare_rows
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row
from cli.benches.population import append_posts, until_applied
from cli.benches.scrape import counted
from cli.benches.stand import Stand, Told, Watch
from cli.stores import OpenStores, open_stores
from millrace.clock import SystemClock
from millrace.errors import Bug, StoreUnavailable
from millrace.log.dead import DeadLetters
from millrace.stores.cassandra import open_feed_store
from millrace.stores.feed_port import FeedStore
from millrace.traffic.graph import Graph, read_edges
from millrace.views import follows, lag, media
from streams.delivery import Delivery
from streams.stepping_back import NodeWatch

_GRAPH = GRAPHS / "github.follows.gz"
# Rows that a turn of one second takes.
_NOMINAL_PER_S = 20_000
_CATCH_UP_S = 150.0
_POLL_S = 0.03
_SAMPLE = 2_000
_DELIVERED = "millrace_feed_rows_delivered_total"
_PLANNED = "millrace_feed_rows_planned_total"
_PROCESSES = ("projector", "fanout")
# The fan-out is held for moments, which must not look like its death.
_ENVIRONMENT = {"MILLRACE_GROUP_SESSION_MS": "60000"}


async def run(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand("fanout", effort, told, processes=_PROCESSES, environment=_ENVIRONMENT) as stand,
        open_stores(stand.settings) as stores,
        contextlib.AsyncExitStack() as opened,
    ):
        graph = read_edges(effort.graph or _GRAPH)
        told(f"{graph.follower.size:,} follows into the log and the view")
        await stores.log.append_many("follows", followed(graph))
        await until_applied(stores.log, stores.views, (follows.VIEW,), _CATCH_UP_S)
        rows = int(effort.seconds * _NOMINAL_PER_S)
        backlog = Backlog(graph, effort.rounds + 1, rows, stores.log.partitions)
        product = _Product(stand, stores, backlog)
        bare = _Bare(opened.enter_context(bare_rows(stand.settings)), backlog)
        own_rows = stand.settings.model_copy(update={"cassandra_keyspace": "alone"})
        alone_store = await open_feed_store(own_rows)
        opened.push_async_callback(alone_store.close)
        alone = _DeliveryAlone(stand, stores, alone_store, backlog)
        found = await stand.rounds(
            effort.rounds,
            {"product": product.turn, "bare part": bare.turn, "delivery alone": alone.turn},
        )
        await product.check()
    return _rows(found, product, backlog, graph)


def _rows(
    found: dict[str, list[Round]], product: "_Product", backlog: Backlog, graph: Graph
) -> list[Row]:
    bare = found["bare part"]
    posts = sum(map(len, backlog.posts)) / len(backlog.posts)
    rows = sum(one.items for one in bare) / len(bare)
    note = (
        f"a backlog of about {posts:,.0f} posts and {rows:,.0f} rows a round, {graph.people:,}"
        f" people, {graph.follower.size:,} follows; planner, chunks and Faust delivery in one"
        " process; bare part: cassandra-driver, the same rows packed once, unlogged batches"
    )
    planning = "explains `deliveries`: rows/s until the last chunk was written, delivery beside it"
    alone = "explains `deliveries`: the same chunks from the log, no planner, no Faust"
    return [
        rate_row("deliveries", "rows/s", found["product"], bare, note),
        rate_row("deliveries, planning", "rows/s", product.planning[1:], (), planning),
        rate_row("deliveries, delivery alone", "rows/s", found["delivery alone"], bare, alone),
    ]


@dataclass(slots=True)
class _Product:
    stand: Stand
    stores: OpenStores
    backlog: Backlog
    planning: list[Round] = field(default_factory=list)

    async def turn(self, number: int) -> Round:
        posts, rows = self.backlog.posts[number], len(self.backlog.rows(number))
        port = self.stand.metrics_port("fanout")
        delivered = await counted(port, _DELIVERED) + rows
        planned = await counted(port, _PLANNED) + rows
        with _held(self.stand.pid("fanout")):
            await append_posts(self.stores.log, posts, SystemClock())
            await until_applied(self.stores.log, self.stores.views, (media.VIEW,), _CATCH_UP_S)
        watch = Watch()
        await _until(watch, port, _PLANNED, planned)
        self.planning.append(Round(rows, watch.seconds))
        await _until(watch, port, _DELIVERED, delivered)
        return Round(rows, watch.seconds)

    async def check(self) -> None:
        """Raises Bug when a row is not there: a sample of all rounds."""
        rounds = range(len(self.backlog.posts))
        owed = [row for number in rounds for row in self.backlog.rows(number)]
        some = [owed[i] for i in np.random.default_rng(2).integers(0, len(owed), _SAMPLE)]
        pairs = [(user_id, media_id) for user_id, media_id, _ in some]
        missing = set(pairs) - await self.stores.feeds.has_many(pairs)
        if missing:
            raise Bug(f"{len(missing)} of {_SAMPLE} rows are not in the feeds")


@dataclass(frozen=True, slots=True)
class _Bare:
    rows: BareRows
    backlog: Backlog

    async def turn(self, number: int) -> Round:
        rows = self.backlog.rows(number)
        watch = Watch()
        await asyncio.to_thread(self.rows.write, rows)
        return Round(len(rows), watch.seconds)


class _DeliveryAlone:
    """Delivery's core in the bench's process, into a keyspace of its own."""

    def __init__(
        self, stand: Stand, stores: OpenStores, feeds: FeedStore, backlog: Backlog
    ) -> None:
        self._settings = stand.settings
        self._log = stores.log
        self._backlog = backlog
        clock = SystemClock()
        dead = DeadLetters(self._log, "bench", clock, ratio_max=1.0, window_events=1_000)
        self._delivery = Delivery(feeds, dead, clock, NodeWatch(self._settings.node_silent_s))
        self._placed = False

    async def turn(self, number: int) -> Round:
        places = [(topic, p) for topic in lag.CHUNKS for p in range(self._log.partitions)]
        if not self._placed:
            await self._delivery.start_positions(places)
            self._placed = True
        ends = {topic: await self._log.ends(topic) for topic in lag.CHUNKS}
        reader = self._log.reader({place: self._delivery.position(*place) for place in places})
        watch = Watch()
        try:
            while any(self._delivery.position(t, p) < ends[t][p] for t, p in places):
                records = await reader.batch(self._settings.delivery_records_max, _POLL_S)
                await self._delivery.deliver(records)
            return Round(len(self._backlog.rows(number)), watch.seconds)
        finally:
            await reader.close()


@contextlib.contextmanager
def _held(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _until(watch: Watch, port: int, counter: str, value: float) -> None:
    """Raises StoreUnavailable when the fan-out does not get there, Bug when it goes beyond."""
    while (found := await counted(port, counter)) < value:
        if watch.seconds > _CATCH_UP_S:
            raise StoreUnavailable(f"{counter} is {found:,.0f}, expected {value:,.0f}")
        await asyncio.sleep(_POLL_S)
    if found > value:
        raise Bug(f"{counter} is {found:,.0f}, expected {value:,.0f}")
