"""`replay`: likes from the log to whole tables beside the served ones, against the live path that
takes the same log into an empty database; reads while the two are exchanged, against before; and
the feed's rows (`replay_feed`).
"""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import asyncpg
import numpy as np

from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, machine, rate_row, time_row
from cli.benches.likes_log import CALLS_AT_ONCE, TOPIC, Like, append, likes_of, records_a_batch
from cli.benches.replay_feed import measure_feed
from cli.benches.stand import Stand, Told, Watch
from millrace import collector
from millrace.auth.keys import load_keys
from millrace.auth.sealing import open_secret, open_text
from millrace.clock import SystemClock
from millrace.errors import Bug, MillraceError
from millrace.log.control import read_identity
from millrace.log.kafka import KafkaLog
from millrace.log.kafka_reading import KafkaReading
from millrace.log.port import ReadingLog
from millrace.settings import Settings
from millrace.stores.migrate import migrate
from millrace.stores.postgres import PostgresStore
from millrace.traffic.graph import read_edges
from millrace.views.data_keys import DataKeys, TextOpener
from millrace.views.likes import LIKES, VIEW
from streams.process import StreamParts
from streams.projector import projection_of
from streams.replay import ReplayParts, Wanted, replay_view, roll_back

# Likes in the log for each second of a turn: the live path takes some seconds for them.
_NOMINAL_PER_S = 100_000
_GRAPH = GRAPHS / "github.follows.gz"
_SWITCHES = 20
_READS_PER_S = 100
_WRITES_PER_S = 50
_READERS = 4
_PAUSE_S = 0.3
_PAGE = 30


async def run(effort: Effort, told: Told) -> list[Row]:
    return [*await _measure_likes(effort, told), *await measure_feed(effort, told)]


async def _measure_likes(effort: Effort, told: Told) -> list[Row]:
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
        bench = _Bench(stand.settings, log, (await read_identity(log)).log_id, len(likes))
        collector.settle(stand.settings.collector_objects)
        sides = {"live path": bench.live, "replay": bench.replay}
        found = await stand.rounds(effort.rounds, sides)
        told("the last replay against the last live path")
        await bench.compare()
        told("reads while the tables are exchanged")
        before, during, errors = await bench.switches(likes)
    note = (
        f"{len(likes):,} likes, {a_batch:.1f} records a Kafka batch ({CALLS_AT_ONCE} calls at"
        " once), from the log to rows, inverse, exact counts, keys and statistics; the last one is"
        " equal; `bare part`: the live path on the same log, an empty database each round"
    )
    reads = (
        f"a page of {_PAGE} and a count; {_READS_PER_S} reads and {_WRITES_PER_S} likes a second,"
        f" {_SWITCHES} exchanges by another process; `bare part`: before them"
    )
    return [
        rate_row("likes", "likes/s", found["replay"], found["live path"], note),
        time_row("reads while switching, p99", "p99", [during], [before], reads),
        Row(
            "errors while switching",
            errors,
            "calls",
            rounds=1,
            note=f"of {during.items:,} reads and the likes meanwhile",
            machine=machine(),
        ),
    ]


class _Bench:
    def __init__(self, settings: Settings, log: KafkaLog, log_id: int, size: int) -> None:
        self._settings = settings
        self._log = log
        self._log_id = log_id
        self._size = size
        self._turn = 0

    async def live(self, _number: int) -> Round:
        """The projector's way, into a new database."""
        await self._fresh()
        async with self._stores() as (store, parts):
            projection = projection_of(VIEW, parts)
            places = [(TOPIC, partition) for partition in range(self._log.partitions)]
            reader = self._log.reader(await projection.start_positions(places))
            watch, left = Watch(), self._size
            try:
                while left:
                    some = min(left, self._settings.project_batch_events)
                    left -= await projection.step(
                        reader, events_max=some, wait_s=self._settings.project_wait_s
                    )
                seconds = watch.seconds
            finally:
                await reader.close()
            await _check(store, self._size)
        return Round(self._size, seconds)

    async def replay(self, _number: int) -> Round:
        """Beside the tables of the live turn."""
        async with self._stores() as (store, _):
            wanted = Wanted(compare=False, switch=False)
            built = await replay_view(VIEW, self._parts(store), wanted)
        if built.events != self._size:
            raise Bug(f"replayed {built.events} of {self._size} events")
        return Round(built.events, built.seconds)

    async def compare(self) -> None:
        """Raises Bug where the last replay is not what the last live turn made."""
        async with self._stores() as (store, _):
            compared = await replay_view(VIEW, self._parts(store), Wanted(switch=False))
        if compared.differs or compared.tables[0].served != self._size:
            raise Bug("the replay is not what was live")

    async def switches(self, likes: Sequence[Like]) -> tuple[Round, Round, int]:
        """Reads before, reads during the exchanges, and how many calls failed."""
        media_ids = [like.media_id for like in likes[:10_000]]
        async with (
            self._stores() as (store, parts),
            _reading(self._settings, media_ids) as reads,
            asyncio.TaskGroup() as tasks,
        ):
            going = [tasks.create_task(_follow(parts, self._log))]
            going.append(tasks.create_task(_write(self._log, likes, reads)))
            await asyncio.sleep(1)
            before = await reads.during(lambda: asyncio.sleep(10))
            await replay_view(VIEW, self._parts(store), Wanted())

            during = await reads.during(lambda: asyncio.to_thread(_exchange_apart, self._settings))
            for task in going:
                task.cancel()
        return before, during, reads.errors

    @contextlib.asynccontextmanager
    async def _stores(self) -> AsyncIterator[tuple[PostgresStore, StreamParts]]:
        store = await PostgresStore.open(self._settings)
        try:
            await store.open_view(VIEW.schema, {TOPIC: self._log.partitions}, self._log_id)
            identity = await read_identity(self._log)
            keys = load_keys(self._settings.keys_dir)
            clock = SystemClock()
            yield store, StreamParts(self._settings, clock, keys, self._log, identity, store)
        finally:
            await store.close()

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

    def _parts(self, store: PostgresStore) -> ReplayParts:
        return _replay_parts(self._settings, self._log, self._log_id, store)


def _replay_parts(
    settings: Settings, log: ReadingLog, log_id: int, store: PostgresStore
) -> ReplayParts:
    clock, master = SystemClock(), load_keys(settings.keys_dir).master
    keys = DataKeys(
        store,
        log,
        clock,
        lambda key, box: open_secret(master, key, box),
        cached_max=1,
        wait_s=1.0,
    )
    opener = TextOpener(keys, open_text)
    return ReplayParts(settings, clock, log, log_id, opener, lambda *_: None)


def _exchange_apart(settings: Settings) -> None:
    """In a process of its own, as the command is one. Returns when it has ended."""
    spawned = multiprocessing.get_context("spawn").Process(target=_exchange, args=(settings,))
    spawned.start()
    spawned.join()
    if spawned.exitcode:
        raise Bug("the tables were not exchanged")


def _exchange(settings: Settings) -> None:
    async def exchange() -> None:
        log = KafkaReading(settings)
        store = await PostgresStore.open(settings)
        parts = _replay_parts(settings, log, (await read_identity(log)).log_id, store)
        for _ in range(_SWITCHES):
            await roll_back(VIEW, parts)
            await asyncio.sleep(_PAUSE_S)
        await store.close()
        await log.close()

    asyncio.run(exchange())


class _Reads:
    """Reads at a rate, each timed from when it should have begun."""

    def __init__(self, store: PostgresStore, media_ids: Sequence[int]) -> None:
        self.errors = 0
        self._store = store
        self._media_ids = media_ids
        self._took_ms: list[float] = []

    async def read(self, reader: int) -> None:
        """For ever: this reader's share of the rate."""
        pause_s = _READERS / _READS_PER_S
        due_s = time.perf_counter() + pause_s * reader / _READERS
        number = reader
        while True:
            await asyncio.sleep(max(due_s - time.perf_counter(), 0))
            media_id = self._media_ids[number % len(self._media_ids)]
            try:
                await LIKES.page(self._store, media_id, after=None, limit=_PAGE)
                await LIKES.count(self._store, [media_id])
            except MillraceError:
                self.errors += 1
            self._took_ms.append((time.perf_counter() - due_s) * 1000)
            due_s += pause_s
            number += _READERS

    async def during(self, work: Callable[[], Awaitable[object]]) -> Round:
        self._took_ms.clear()
        watch = Watch()
        await work()
        took = np.array(self._took_ms)
        quantiles = {"p50": float(np.percentile(took, 50)), "p99": float(np.percentile(took, 99))}
        return Round(took.size, watch.seconds, quantiles_ms=quantiles)


@contextlib.asynccontextmanager
async def _reading(settings: Settings, media_ids: Sequence[int]) -> AsyncIterator[_Reads]:
    """Readers with connections of their own."""
    store = await PostgresStore.open(settings)
    reads = _Reads(store, media_ids)
    tasks = [asyncio.create_task(reads.read(number)) for number in range(_READERS)]
    try:
        yield reads
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()


async def _follow(parts: StreamParts, log: KafkaLog) -> None:
    projection = projection_of(VIEW, parts)
    places = [(TOPIC, partition) for partition in range(log.partitions)]
    reader = log.reader(await projection.start_positions(places))
    try:
        while True:
            await projection.step(reader, events_max=4_000, wait_s=0.05)
    finally:
        await reader.close()


async def _write(log: KafkaLog, likes: Sequence[Like], reads: _Reads) -> None:
    """New likes of the same media, by people who are in no graph."""
    for number, like in enumerate(likes):
        try:
            await append(log, [Like(like.media_id, 10_000_000 + number)], SystemClock())
        except MillraceError:
            reads.errors += 1
        await asyncio.sleep(1 / _WRITES_PER_S)


async def _check(store: PostgresStore, expected: int) -> None:
    """A figure of a bench that lost something would mean nothing."""
    counted = 0
    async for _, value in store.scan_counts(LIKES.table):
        counted += value
    if counted != expected:
        raise Bug(f"expected {expected} likes in the counts, found {counted}")
