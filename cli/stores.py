"""The log and the stores of an installation, opened for a command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from millrace.log.kafka import KafkaLog
from millrace.settings import Settings
from millrace.stores.cassandra import CassandraFeedStore, open_feed_store
from millrace.stores.postgres import PostgresStore


@dataclass(frozen=True, slots=True)
class OpenStores:
    """Satisfies `millrace.views.lag.Stores`."""

    log: KafkaLog
    views: PostgresStore
    feeds: CassandraFeedStore


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[OpenStores]:
    """Raises StoreUnavailable when one of them does not answer."""
    log = KafkaLog(settings)
    try:
        views = await PostgresStore.open(settings)
        try:
            feeds = await open_feed_store(settings)
            try:
                yield OpenStores(log, views, feeds)
            finally:
                await feeds.close()
        finally:
            await views.close()
    finally:
        await log.close()
