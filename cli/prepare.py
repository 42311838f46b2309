"""What must be there before Millrace's own processes: keys, topics, tables, the keyspace.

Each step may be repeated; what is there already stays as it is. A server that has only just
started may be slow to answer: a step is tried again for a while.
"""

from collections.abc import AsyncIterator

from millrace.auth.keys import ensure_keys
from millrace.log.create import create_log
from millrace.settings import Settings
from millrace.startup import until_answered
from millrace.stores.cassandra import open_feed_store
from millrace.stores.migrate import migrate

_PATIENCE_S = 60.0


async def prepare(settings: Settings) -> AsyncIterator[str]:
    """Does it step by step; yields what is done next. Raises StoreUnavailable in the end."""
    yield "keys"
    ensure_keys(settings.keys_dir)
    yield "topics"
    await until_answered(lambda: create_log(settings), patience_s=_PATIENCE_S)
    yield "PostgreSQL migrations"
    await until_answered(lambda: migrate(settings), patience_s=_PATIENCE_S)
    yield "Cassandra schema"
    feeds = await until_answered(lambda: open_feed_store(settings), patience_s=_PATIENCE_S)
    await feeds.close()
