"""The view of likes where a bench drives it by itself: opened, fed from the log, built again."""

import contextlib
from collections.abc import AsyncIterator, Callable

from cli.benches.likes_log import TOPIC
from cli.benches.stand import Watch
from millrace.auth.keys import load_keys
from millrace.auth.sealing import open_secret, open_text
from millrace.clock import SystemClock
from millrace.log.control import read_identity
from millrace.log.kafka import KafkaLog
from millrace.log.port import ReadingLog
from millrace.settings import Settings
from millrace.stores.postgres import PostgresStore
from millrace.views.data_keys import DataKeys, TextOpener
from millrace.views.likes import VIEW
from streams.process import StreamParts
from streams.projector import projection_of
from streams.replay import ReplayParts


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, log: KafkaLog
) -> AsyncIterator[tuple[PostgresStore, StreamParts]]:
    """The view at its stored positions, at 0 in a new database."""
    store = await PostgresStore.open(settings)
    try:
        identity = await read_identity(log)
        await store.open_view(VIEW.schema, {TOPIC: log.partitions}, identity.log_id)
        keys = load_keys(settings.keys_dir)
        yield store, StreamParts(settings, SystemClock(), keys, log, identity, store)
    finally:
        await store.close()


async def follow(parts: StreamParts, log: KafkaLog, events: int | None = None) -> float:
    """The projector's way, from the stored positions: so many events, or for ever. Returns the
    seconds that it took to apply them.
    """
    projection = projection_of(VIEW, parts)
    places = [(TOPIC, partition) for partition in range(log.partitions)]
    reader = log.reader(await projection.start_positions(places))
    settings, watch = parts.settings, Watch()
    try:
        while events is None or events > 0:
            some = min(events or settings.project_batch_events, settings.project_batch_events)
            done = await projection.step(reader, events_max=some, wait_s=settings.project_wait_s)
            events = None if events is None else events - done
        return watch.seconds
    finally:
        await reader.close()


async def replay_parts(
    settings: Settings,
    log: ReadingLog,
    store: PostgresStore,
    told: Callable[[str, int, int], None] = lambda *_: None,
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
    identity = await read_identity(log)
    return ReplayParts(settings, clock, log, identity.log_id, opener, told)
