"""What must be there before Millrace's own processes: keys, topics, tables, the keyspace.

Each step may be repeated; what is there already stays as it is.
"""

from collections.abc import AsyncIterator

from millrace.auth.keys import ensure_keys
from millrace.log.create import create_log
from millrace.settings import Settings
from millrace.stores.cassandra import open_feed_store
from millrace.stores.migrate import migrate


async def prepare(settings: Settings) -> AsyncIterator[str]:
    """Does it step by step; yields what is done next."""
    yield "keys"
    ensure_keys(settings.keys_dir)
    yield "topics"
    await create_log(settings)
    yield "PostgreSQL migrations"
    await migrate(settings)
    yield "Cassandra schema"
    await (await open_feed_store(settings)).close()
