"""Rows `reads while switching, p99` and `errors while switching` of the bench `replay`: pages and
counts of likes while what is served is exchanged again and again, against the same reads before.
"""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from cli.benches import likes_view
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, machine, time_row
from cli.benches.likes_log import Like, append, append_one, likes_of
from cli.benches.stand import Stand, Told, Watch
from millrace.clock import SystemClock
from millrace.errors import MillraceError
from millrace.log.kafka import KafkaLog
from millrace.log.kafka_reading import KafkaReading
from millrace.settings import Settings
from millrace.stores.postgres import PostgresStore
from millrace.traffic.graph import read_edges
from millrace.views.likes import LIKES, VIEW
from streams.replay import Wanted, replay_view, roll_back

_GRAPH = GRAPHS / "github.follows.gz"
# Likes in the tables for each second of a turn.
_NOMINAL_PER_S = 20_000
_READS_PER_S = 100
_WRITES_PER_S = 50
_READERS = 4
# Of a turn: enough reads for a p99.
_TURN_MIN_S = 10.0
_SWITCHES_PER_S = 1.0
_PAGE = 30
_READ_MEDIA = 10_000
# Nobody in a graph has so high an id.
_STRANGER = 10_000_000


async def measure_switching(effort: Effort, told: Told) -> list[Row]:
    """With servers of its own."""
    async with (
        Stand("replay-switching", effort, told, servers=("kafka", "postgres")) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        log = KafkaLog(stand.settings)
        opened.push_async_callback(log.close)
        graph = read_edges(effort.graph or _GRAPH)
        wanted = max(int(effort.seconds * _NOMINAL_PER_S), stand.settings.project_batch_events)
        likes = likes_of(graph, wanted, SystemClock(), log.partitions)
        told(f"{len(likes):,} likes into the log, one by one")
        await append(log, likes, SystemClock())
        store, parts = await opened.enter_async_context(likes_view.opened(stand.settings, log))
        await likes_view.follow(parts, log, len(likes))
        replayed = await replay_view(
            VIEW, await likes_view.replay_parts(stand.settings, log, store), Wanted()
        )
        told(f"{replayed.events:,} replayed, equal and switched; now to and fro")
        readers = await PostgresStore.open(stand.settings)
        opened.push_async_callback(readers.close)
        reads = _Reads(readers, [like.media_id for like in likes[:_READ_MEDIA]])
        other = opened.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        turns = _Turns(stand.settings, reads, other, max(effort.seconds, _TURN_MIN_S))
        traffic = [likes_view.follow(parts, log), _write(log, likes, reads)]
        async with asyncio.TaskGroup() as tasks:
            work = [*traffic, *(reads.read(number) for number in range(_READERS))]
            going = [tasks.create_task(one) for one in work]
            found = await stand.rounds(
                effort.rounds, {"switching": turns.switching, "before": turns.before}
            )
            for task in going:
                task.cancel()
    return _rows(turns, found["switching"], found["before"])


def _rows(turns: "_Turns", during: Sequence[Round], before: Sequence[Round]) -> list[Row]:
    note = (
        f"a page of {_PAGE} and a count of likes; {_READS_PER_S} reads and {_WRITES_PER_S} likes a"
        f" second, {turns.switches} exchanges a turn by another process; `bare part`: without them"
    )
    reads = sum(one.items for one in during)
    return [
        time_row("reads while switching, p99", "p99", during, before, note),
        Row(
            "errors while switching",
            turns.reads.errors,
            "calls",
            rounds=len(during),
            note=f"of {reads:,} reads and the likes meanwhile",
            machine=machine(),
        ),
    ]


class _Turns:
    def __init__(
        self, settings: Settings, reads: "_Reads", other: ProcessPoolExecutor, seconds: float
    ) -> None:
        self.reads = reads
        self.switches = max(int(seconds * _SWITCHES_PER_S), 1)
        self._settings = settings
        self._other = other
        self._seconds = seconds

    async def before(self, _number: int) -> Round:
        return await self.reads.during(lambda: asyncio.sleep(self._seconds))

    async def switching(self, _number: int) -> Round:
        loop = asyncio.get_running_loop()
        return await self.reads.during(
            lambda: loop.run_in_executor(
                self._other, _exchange, self._settings, self.switches, 1 / _SWITCHES_PER_S
            )
        )


def _exchange(settings: Settings, times: int, every_s: float) -> None:
    """In a process of its own, as the command is one."""

    async def exchange() -> None:
        log = KafkaReading(settings)
        store = await PostgresStore.open(settings)
        parts = await likes_view.replay_parts(settings, log, store)
        begun_s = time.monotonic()
        for number in range(1, times + 1):
            await roll_back(VIEW, parts)
            await asyncio.sleep(max(begun_s + number * every_s - time.monotonic(), 0))
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
        self._from_s = 0.0

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
            # What a turn was late with is not the next one's.
            due_s = max(due_s + pause_s, self._from_s)
            number += _READERS

    async def during(self, work: Callable[[], Awaitable[object]]) -> Round:
        self._took_ms.clear()
        self._from_s = time.perf_counter()
        watch = Watch()
        await work()
        took = np.array(self._took_ms)
        quantiles = {"p50": float(np.percentile(took, 50)), "p99": float(np.percentile(took, 99))}
        return Round(took.size, watch.seconds, quantiles_ms=quantiles)


async def _write(log: KafkaLog, likes: Sequence[Like], reads: _Reads) -> None:
    """New likes of the same media, by people who are in no graph. For ever, as a bench goes."""
    for number, like in enumerate(likes):
        try:
            await append_one(log, Like(like.media_id, _STRANGER + number), SystemClock())
        except MillraceError:
            reads.errors += 1
        await asyncio.sleep(1 / _WRITES_PER_S)
