"""What must be there before Millrace's own processes: keys, topics, tables, the keyspace.

Each step may be repeated; what is there already stays as it is. A server that has only just
started may be slow to answer: a step is tried again for a while.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from millrace.auth.keys import ensure_keys
from millrace.errors import StoreUnavailable
from millrace.log.create import create_log
from millrace.settings import Settings
from millrace.stores.cassandra import open_feed_store
from millrace.stores.migrate import migrate

T = TypeVar("T")
_PATIENCE_S = 60.0
_PAUSE_S = 0.5


async def prepare(settings: Settings) -> AsyncIterator[str]:
    """Does it step by step; yields what is done next. Raises StoreUnavailable in the end."""
    yield "keys"
    ensure_keys(settings.keys_dir)
    yield "topics"
    await _answered(lambda: create_log(settings))
    yield "PostgreSQL migrations"
    await _answered(lambda: migrate(settings))
    yield "Cassandra schema"
    feeds = await _answered(lambda: open_feed_store(settings))
    await feeds.close()


async def _answered(step: Callable[[], Awaitable[T]]) -> T:
    ends_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await step()
        except StoreUnavailable:
            if time.monotonic() > ends_s:
                raise
        await asyncio.sleep(_PAUSE_S)
