"""`millrace replay feed`: the rows of the feed, built again beside the served ones."""

import contextlib
from collections.abc import AsyncIterator, Callable

from rich.console import Console

from cli.replay_bar import ReplayBar, slowed
from millrace.clock import SystemClock
from millrace.log.kafka_reading import KafkaReading
from millrace.settings import Settings
from millrace.stores.cassandra import open_feed_store
from millrace.stores.postgres import PostgresStore
from streams.replay import Wanted
from streams.replay_feed import (
    FeedParts,
    drop_beside,
    replay_feed,
    roll_back,
    status_of,
)

NAME = "feed"
_SHOWN_MAX = 20


async def replay(settings: Settings, wanted: Wanted, console: Console) -> str:
    bar = ReplayBar(Console(stderr=True), slowed("rows", wanted.events_per_s, wanted.share))
    async with _parts(settings, lambda *told: bar.told(NAME, *told)) as parts:
        bar.start()
        try:
            done = await replay_feed(
                parts,
                compare=wanted.compare,
                switch=wanted.switch,
                accept=wanted.accept,
                rows_per_s=wanted.events_per_s,
                share=wanted.share,
            )
        finally:
            bar.stop()
    said = f"{NAME}: {done.rows:,} rows in {done.seconds:.1f} s"
    console.print(f"{said} ({done.rate:,.0f}/s)" if done.rows else said, highlight=False)
    if wanted.compare:
        lacking = f"{len(done.missing):,} of them missing in {done.table}"
        console.print(f"{done.owed:,} rows are owed, {lacking}", highlight=False)
    for one in done.missing[:_SHOWN_MAX]:
        console.print(f"  {one}", highlight=False, markup=False, soft_wrap=True)
    if wanted.switch and not done.switched:
        return f"{NAME} lacks rows, and was not switched; --accept switches"
    if done.switched:
        console.print(
            f"{NAME} is served from {done.table}; the old table is kept, and written as well:"
            f" `millrace replay {NAME} --rollback` or --drop-old",
            highlight=False,
        )
    return f"{NAME} lacks rows that are owed" if done.missing else ""


async def back(settings: Settings) -> None:
    async with _parts(settings) as parts:
        await roll_back(parts)


async def drop(settings: Settings) -> str:
    async with _parts(settings) as parts:
        phase = await drop_beside(parts)
    return f"dropped what was beside it ({phase})" if phase else "nothing lies beside it"


async def status(settings: Settings) -> str:
    async with _parts(settings) as parts:
        return await status_of(parts)


@contextlib.asynccontextmanager
async def _parts(
    settings: Settings, told: Callable[[str, int, int], None] = lambda *_: None
) -> AsyncIterator[FeedParts]:
    log = KafkaReading(settings)
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(log.close)
        views = await PostgresStore.open(settings)
        opened.push_async_callback(views.close)
        feeds = await open_feed_store(settings)
        opened.push_async_callback(feeds.close)
        yield FeedParts(settings, SystemClock(), log, views, feeds, told)
