"""`replay`: likes from the log to whole tables beside the served ones, against the live path that
takes the same log into an empty database. Its other parts are reads while the two are exchanged
(`replay_switching`) and the feed's rows (`replay_feed`).
"""

import contextlib
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import asyncpg

from cli.benches import likes_view
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row
from cli.benches.likes_log import CALLS_AT_ONCE, TOPIC, append, likes_of, records_a_batch
from cli.benches.phases import Phases
from cli.benches.replay_feed import measure_feed
from cli.benches.replay_switching import measure_switching
from cli.benches.stand import Stand, Told
from millrace import collector
from millrace.clock import SystemClock
from millrace.errors import Bug
from millrace.log.kafka import KafkaLog
from millrace.settings import Settings
from millrace.stores.migrate import migrate
from millrace.stores.postgres import PostgresStore
from millrace.traffic.graph import read_edges
from millrace.views.likes import LIKES, VIEW
from streams.replay import Wanted, replay_view

# Likes in the log for each second of a turn: the live path takes some seconds for them.
_NOMINAL_PER_S = 100_000
_GRAPH = GRAPHS / "github.follows.gz"


async def run(effort: Effort, told: Told) -> list[Row]:
    return [row for part in PARTS for row in await PARTS[part](effort, told)]


async def measure_likes(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand("replay", effort, told, servers=("kafka", "postgres")) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        log = KafkaLog(stand.settings)
        opened.push_async_callback(log.close)
        wanted = max(int(effort.seconds * _NOMINAL_PER_S), stand.settings.project_batch_events)
        edges = read_edges(effort.graph or _GRAPH)
        likes = likes_of(edges, wanted, SystemClock(), log.partitions)
        told(f"{len(likes):,} likes into the log, one by one")
        await append(log, likes, SystemClock())
        a_batch = records_a_batch(stand.kafka_data_dir, TOPIC)
        bench = _Bench(stand.settings, log, len(likes))
        collector.settle(stand.settings.collector_objects)
        sides = {"live path": bench.live, "replay": bench.replay}
        found = await stand.rounds(effort.rounds, sides)
        told("the last replay against the last live path")
        await bench.compare()
        told("where the time goes: one more replay")
        phases = await bench.phases(stand.spent_us)
    note = (
        f"{len(likes):,} likes, {a_batch:.1f} records a Kafka batch ({CALLS_AT_ONCE} calls at"
        " once), from the log to rows, inverse, exact counts, keys and statistics; the last one is"
        " equal; `bare part`: the live path on the same log, an empty database each round. By step,"
        f" in one more replay, with µs of CPU time a like: {phases.story(len(likes))}"
    )
    return [rate_row("likes", "likes/s", found["replay"], found["live path"], note)]


# What can be measured by itself: `millrace bench replay --part likes`.
PARTS = {"likes": measure_likes, "switching": measure_switching, "feed": measure_feed}


class _Bench:
    def __init__(self, settings: Settings, log: KafkaLog, size: int) -> None:
        self._settings = settings
        self._log = log
        self._size = size
        self._turn = 0

    async def live(self, _number: int) -> Round:
        """The projector's way, into a new database."""
        await self._fresh()
        async with likes_view.opened(self._settings, self._log) as (store, parts):
            seconds = await likes_view.follow(parts, self._log, self._size)
            await _check(store, self._size)
        return Round(self._size, seconds)

    async def replay(self, _number: int) -> Round:
        """Beside the tables of the live turn."""
        async with likes_view.opened(self._settings, self._log) as (store, _):
            wanted = Wanted(compare=False, switch=False)
            parts = await likes_view.replay_parts(self._settings, self._log, store)
            built = await replay_view(VIEW, parts, wanted)
        if built.events != self._size:
            raise Bug(f"replayed {built.events} of {self._size} events")
        return Round(built.events, built.seconds)

    async def phases(self, spent: Callable[[], Mapping[str, float]]) -> Phases:
        """Of a replay into a new database. The first batch is read while it looks at what is there.
        Not one of the rounds, since asking for CPU time takes time.
        """
        await self._fresh()
        phases = Phases(spent)
        async with likes_view.opened(self._settings, self._log) as (store, _):
            parts = await likes_view.replay_parts(self._settings, self._log, store, phases.told)
            await replay_view(VIEW, parts, Wanted(compare=False, switch=False))
        phases.told("", 0, 0)
        return phases

    async def compare(self) -> None:
        """Raises Bug where the last replay is not what the last live turn made."""
        async with likes_view.opened(self._settings, self._log) as (store, _):
            parts = await likes_view.replay_parts(self._settings, self._log, store)
            compared = await replay_view(VIEW, parts, Wanted(switch=False))
        if compared.differs or compared.tables[0].served != self._size:
            raise Bug("the replay is not what was live")

    async def _fresh(self) -> None:
        """A new, migrated database is the product's from here on."""
        self._turn += 1
        name = f"turn{self._turn}"
        connection = await asyncpg.connect(self._settings.postgres_dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = urlsplit(self._settings.postgres_dsn)._replace(path=f"/{name}").geturl()
        self._settings = self._settings.model_copy(update={"postgres_dsn": dsn})
        await migrate(self._settings)


async def _check(store: PostgresStore, expected: int) -> None:
    """A figure of a bench that lost something would mean nothing."""
    counted = 0
    async for _, value in store.scan_counts(LIKES.table):
        counted += value
    if counted != expected:
        raise Bug(f"expected {expected} likes in the counts, found {counted}")
