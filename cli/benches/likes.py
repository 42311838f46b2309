"""`likes`: from the log to rows, inverse and exact counts, by the product's own projection.

Sides: the product (reader, Projection, PostgresStore); the bare part (`bare_likes`); the store
alone, given changes; the projection alone, on a store that takes everything and keeps nothing.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from cli.benches import bare_likes
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row
from cli.benches.likes_log import CALLS_AT_ONCE, TOPIC, Like, append, likes_of, records_a_batch
from cli.benches.stand import Side, Stand, Told, Watch
from millrace import collector
from millrace.auth.keys import load_keys
from millrace.clock import SystemClock
from millrace.errors import Bug
from millrace.log.control import read_identity
from millrace.log.kafka import KafkaLog
from millrace.log.port import LogReader
from millrace.settings import Settings
from millrace.stores.changes import Batch, EdgeChange, Move
from millrace.stores.migrate import migrate
from millrace.stores.port import StoredPosition
from millrace.stores.postgres import PostgresStore
from millrace.stores.schema import ViewSchema
from millrace.traffic.graph import read_edges
from millrace.views.likes import LIKES, VIEW
from streams.process import StreamParts
from streams.projection import Projection
from streams.projector import projection_of

# Likes that a turn of one second takes.
_NOMINAL_PER_S = 20_000
_GRAPH = GRAPHS / "github.follows.gz"
_DATABASES = {"product": "", "bare part": "bare", "store alone": "alone"}


async def run(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand("likes", effort, told, servers=("kafka", "postgres")) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        settings = stand.settings
        size = max(int(effort.seconds * _NOMINAL_PER_S), settings.project_batch_events)
        log = KafkaLog(settings)
        opened.push_async_callback(log.close)
        likes = likes_of(
            read_edges(effort.graph or _GRAPH),
            size * (effort.rounds + 1),
            SystemClock(),
            log.partitions,
        )
        size = len(likes) // (effort.rounds + 1)
        told(f"{len(likes):,} likes into the log, one by one")
        await append(log, likes, SystemClock())
        a_batch = records_a_batch(stand.kafka_data_dir, TOPIC)
        sides = await _sides(settings, log, likes, size, opened)
        # As every process of Millrace does before its work.
        collector.settle(settings.collector_objects)
        found = await stand.rounds(effort.rounds, sides)
        for name in _DATABASES:
            await _check(_dsn(settings, _DATABASES[name]), size * (effort.rounds + 1))
    return _rows(found, size, a_batch, settings)


def _rows(
    found: dict[str, list[Round]], size: int, a_batch: float, settings: Settings
) -> list[Row]:
    bare = found["bare part"]
    note = (
        f"{size:,} likes a round, {a_batch:.1f} records a Kafka batch ({CALLS_AT_ONCE} calls at"
        f" once), {settings.project_batch_events:,} events a transaction; bare part: the same"
        " rows, inverse, counts and position by hand-written statements on one connection, no log"
    )
    alone = "explains `likes`: no log, no decoding, changes ready in memory; the same bare part"
    reading = "explains `likes`: the log, decoding and projecting; a store that keeps nothing"
    return [
        rate_row("likes", "likes/s", found["product"], bare, note),
        rate_row("likes, store alone", "likes/s", found["store alone"], bare, alone),
        rate_row("likes, projection alone", "likes/s", found["projection alone"], (), reading),
    ]


async def _sides(
    settings: Settings,
    log: KafkaLog,
    likes: Sequence[Like],
    size: int,
    opened: contextlib.AsyncExitStack,
) -> dict[str, Side]:
    identity = await read_identity(log)
    stores = {}
    for name, database in _DATABASES.items():
        if database:
            await _create(settings, database)
        one = settings.model_copy(update={"postgres_dsn": _dsn(settings, database)})
        stores[name] = await PostgresStore.open(one)
        opened.push_async_callback(stores[name].close)
        await stores[name].open_view(VIEW.schema, {TOPIC: log.partitions}, identity.log_id)
    bare = await asyncpg.connect(_dsn(settings, "bare"))
    opened.push_async_callback(bare.close)
    keys = load_keys(settings.keys_dir)
    parts = StreamParts(settings, SystemClock(), keys, log, identity, stores["product"])
    nowhere: Any = _Nowhere(log.partitions)
    batch = settings.project_batch_events
    return {
        "product": _Projected(parts, size).turn,
        "bare part": _Bare(bare, likes, size, batch).turn,
        "store alone": _StoreAlone(stores["store alone"], likes, size, batch).turn,
        "projection alone": _Projected(replace(parts, views=nowhere), size).turn,
    }


class _Projected:
    """The product, or with a store that keeps nothing the part of it before the store."""

    def __init__(self, parts: StreamParts, size: int) -> None:
        self._parts = parts
        self._size = size

    async def turn(self, _number: int) -> Round:
        log, settings = self._parts.log, self._parts.settings
        # A new one: the last turn's has read ahead.
        projection = projection_of(VIEW, self._parts)
        places = [(TOPIC, partition) for partition in range(log.partitions)]
        start = await projection.start_positions(places)
        reader = log.reader(start)
        try:
            # Connected, but nothing fetched ahead of its turn.
            await reader.batch(1, settings.project_wait_s)
            for (topic, partition), position in start.items():
                reader.seek(topic, partition, position)
            watch = Watch()
            await self._take(projection, reader)
            return Round(self._size, watch.seconds)
        finally:
            await reader.close()

    async def _take(self, projection: Projection, reader: LogReader) -> None:
        settings = self._parts.settings
        left = self._size
        while left:
            some = min(left, settings.project_batch_events)
            left -= await projection.step(reader, events_max=some, wait_s=settings.project_wait_s)


class _Bare:
    def __init__(self, connection: Any, likes: Sequence[Like], size: int, batch_likes: int) -> None:
        self._connection = connection
        self._likes = likes
        self._size = size
        self._batch_likes = batch_likes

    async def turn(self, number: int) -> Round:
        first = number * self._size
        mine = self._likes[first : first + self._size]
        batches = bare_likes.batches_of(mine, self._batch_likes, first + 1, SystemClock().now_ms())
        watch = Watch()
        fresh = await bare_likes.apply(self._connection, batches)
        return Round(fresh, watch.seconds)


class _StoreAlone:
    def __init__(
        self, store: PostgresStore, likes: Sequence[Like], size: int, batch_likes: int
    ) -> None:
        self._store = store
        self._likes = likes
        self._size = size
        self._batch_likes = batch_likes

    async def turn(self, number: int) -> Round:
        first, at_ms = number * self._size, SystemClock().now_ms()
        batches = []
        for start in range(first, first + self._size, self._batch_likes):
            end = min(start + self._batch_likes, first + self._size)
            changes: list[Any] = [
                EdgeChange(LIKES.name, like.media_id, like.user_id, True, n, n, at_ms)
                for n, like in enumerate(self._likes[start:end], start + 1)
            ]
            batches.append(Batch(VIEW.name, (Move(TOPIC, 0, start, end),), changes))
        watch = Watch()
        for batch in batches:
            await self._store.apply(VIEW.schema, batch)
        return Round(self._size, watch.seconds)


class _Nowhere:
    """A store as far as a projection needs one."""

    def __init__(self, partitions: int) -> None:
        self._at = {(TOPIC, partition): 0 for partition in range(partitions)}

    async def positions(self, _view: str) -> dict[tuple[str, int], StoredPosition]:
        return {place: StoredPosition(1, 0, number) for place, number in self._at.items()}

    async def apply(self, _schema: ViewSchema, batch: Batch) -> None:
        for move in batch.moves:
            self._at[move.topic, move.partition] = move.end


def _dsn(settings: Settings, database: str) -> str:
    dsn = settings.postgres_dsn
    return urlsplit(dsn)._replace(path=f"/{database}").geturl() if database else dsn


async def _create(settings: Settings, database: str) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn)
    await connection.execute(f"CREATE DATABASE {database}")
    await connection.close()
    await migrate(settings.model_copy(update={"postgres_dsn": _dsn(settings, database)}))


async def _check(dsn: str, expected: int) -> None:
    """A figure of a bench that lost something would mean nothing."""
    connection = await asyncpg.connect(dsn)
    found = [
        await connection.fetchval(f"SELECT {what} FROM {table}")  # noqa: S608  names from here
        for what, table in (
            ("count(*)", "likes"),
            ("count(*)", "likes_by_user"),
            ("sum(value)", "likes_count"),
        )
    ]
    await connection.close()
    if any(value != expected for value in found):
        raise Bug(f"expected {expected} likes in rows, inverse and counts, found {found}")
