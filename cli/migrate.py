"""`millrace migrate`: tables of PostgreSQL and Cassandra."""

import asyncio

from cli.settings_of import DataDir, settings_of_running
from millrace.stores.cassandra import open_feed_store
from millrace.stores.migrate import migrate as migrate_postgres


def migrate(data: DataDir = None) -> None:
    """Bring PostgreSQL's and Cassandra's schema up to date; may be repeated."""
    settings = settings_of_running(data)

    async def both() -> None:
        await migrate_postgres(settings)
        await (await open_feed_store(settings)).close()

    asyncio.run(both())
    print("PostgreSQL and Cassandra are up to date")
