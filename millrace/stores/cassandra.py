"""The feed store on Cassandra: LOCAL_QUORUM for writes and for feed partitions.

Not: the session's threads and errors (`cassandra_session`), the packing (`cassandra_rows`).
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from millrace.errors import Bug
from millrace.settings import Settings
from millrace.stores.cassandra_ring import Ring
from millrace.stores.cassandra_rows import PackedBatch, RowPacker
from millrace.stores.cassandra_session import CassandraSession, connect
from millrace.stores.cassandra_tables import CassandraTables, TableStatements
from millrace.stores.feed_port import (
    FeedRow,
    FeedStatics,
    FeedTables,
    MinutePosition,
    NodeSeen,
    TopicPartition,
)

# All in one partition, hence one atomic batch.
_SAVE = """
BEGIN UNLOGGED BATCH
UPDATE {keyspace}.positions SET newest = ?
  WHERE name = ? AND topic = ? AND partition = ?;
UPDATE {keyspace}.positions USING TTL ? SET generations = ?
  WHERE name = ? AND topic = ? AND partition = ? AND minute = ?;
UPDATE {keyspace}.positions USING TIMESTAMP ? AND TTL ? SET number = ?
  WHERE name = ? AND topic = ? AND partition = ? AND minute = ?;
APPLY BATCH
"""
_NEWEST = (
    "SELECT DISTINCT newest FROM {keyspace}.positions"
    " WHERE name = ? AND topic = ? AND partition = ?"
)
_HISTORY = (
    "SELECT minute, number, generations FROM {keyspace}.positions"
    " WHERE name = ? AND topic = ? AND partition = ? LIMIT ?"
)
_OWN = "INSERT INTO {keyspace}.log (one, log_id) VALUES (1, ?) IF NOT EXISTS"
_OWNER = "SELECT log_id FROM {keyspace}.log WHERE one = 1"
_GOSSIP = "SELECT host_id, generation, heartbeat FROM system_views.gossip_info"
_GOSSIP_BEFORE_5 = "SELECT host_id, gossip_generation, toUnixTimestamp(now()) FROM system.local"
_IN_MAX = 100
# Above every number, so that `_LOWEST_WINS - number` is a timestamp that rises as numbers fall.
_LOWEST_WINS = 2**62


async def open_feed_store(settings: Settings) -> "CassandraFeedStore":
    """Raises StoreUnavailable when no node answers. Creates what is missing."""
    session = await connect(settings)
    store = CassandraFeedStore(session, settings)
    try:
        await store.prepare()
    except BaseException:
        await session.close()
        raise
    return store


class CassandraFeedStore:
    """Implements `FeedStore`. One a process."""

    def __init__(self, session: CassandraSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._keyspace = settings.cassandra_keyspace
        self._tables = CassandraTables(session, settings)
        self._writes = asyncio.Semaphore(settings.delivery_batches_parallel)
        self._reads = asyncio.Semaphore(settings.cassandra_reads_parallel)
        self._ring = Ring(session.cluster.metadata, self._keyspace, settings.cassandra_dc)

    async def prepare(self) -> None:
        """Once, before anything else."""
        await self._tables.prepare()
        self._save = await self._prepare(_SAVE)
        self._newest = await self._prepare(_NEWEST)
        self._history = await self._prepare(_HISTORY)
        self._own = await self._prepare(_OWN)
        self._owner = await self._prepare(_OWNER)
        self._gossip = await self._gossip_query()

    async def _prepare(self, statement: str) -> Any:
        return await self._session.prepare(statement.format(keyspace=self._keyspace))

    async def write(self, rows: Sequence[FeedRow]) -> None:
        tables = await self._tables.ours()
        await self.write_to(tables.current, rows)
        if tables.beside:
            await self.write_to(tables.beside, rows)

    async def write_to(self, table: str, rows: Sequence[FeedRow]) -> None:
        packer = (await self._tables.of(table)).packer
        size = self._settings.delivery_batch_rows
        batches = (
            group[start : start + size]
            for group in self._ring.by_replica(rows)
            for start in range(0, len(group), size)
        )
        writers = min(self._settings.delivery_batches_parallel, -(-len(rows) // size))
        ends = await asyncio.gather(
            *(self._write_batches(packer, batches) for _ in range(writers)),
            return_exceptions=True,
        )
        for end in ends:
            if end is not None:
                raise end

    async def _write_batches(
        self, packer: RowPacker, batches: Generator[Sequence[FeedRow], None, None]
    ) -> None:
        """One of several writers that share the batches; the first error ends all of them."""
        try:
            for batch in batches:
                rows = packer.pack(batch)
                async with self._writes:
                    await self._session.execute(PackedBatch(rows, batch[0][0], self._keyspace))
        except BaseException:
            batches.close()
            raise

    async def _served(self) -> TableStatements:
        return await self._tables.of((await self._tables.known()).current)

    async def page(
        self, user_id: int, *, before: int | None = None, limit: int
    ) -> list[tuple[int, int]]:
        served = await self._served()
        if before is None:
            found = await self._read(served.page, (user_id, limit))
        else:
            found = await self._read(served.page_before, (user_id, before, limit))
        # A partition that has statics alone answers with one row of nulls.
        return [(row[0], row[1]) for row in found if row[0] is not None]

    async def statics(self, user_id: int) -> FeedStatics:
        for row in await self._read((await self._served()).statics, (user_id,)):
            phase, upto, floor, cold_edges, hold, hold_from = row
            return FeedStatics(
                phase or 0, upto or 0, floor or 0, dict(cold_edges or {}), hold or 0, hold_from or 0
            )
        return FeedStatics()

    async def has_many(
        self, pairs: Sequence[tuple[int, int]], *, table: str = ""
    ) -> set[tuple[int, int]]:
        has = (await self._tables.of(table) if table else await self._served()).has
        media_of: defaultdict[int, list[int]] = defaultdict(list)
        for user_id, media_id in pairs:
            media_of[user_id].append(media_id)
        lookups = (
            (user_id, media_ids[start : start + _IN_MAX])
            for user_id, media_ids in media_of.items()
            for start in range(0, len(media_ids), _IN_MAX)
        )
        found: set[tuple[int, int]] = set()
        while some := list(islice(lookups, self._settings.cassandra_reads_parallel)):
            answers = await asyncio.gather(*(self._read(has, lookup) for lookup in some))
            for (user_id, _), rows in zip(some, answers, strict=True):
                found.update((user_id, row[0]) for row in rows)
        return found

    async def scan(self) -> AsyncIterator[FeedRow]:
        scan = (await self._served()).scan
        paging_state: bytes | None = None
        while True:
            rows, paging_state = await self._session.execute_page(scan, (), paging_state)
            for row in rows:
                if row[1] is not None:
                    yield FeedRow(*row)
            if paging_state is None:
                return

    async def tables(self) -> FeedTables:
        return await self._tables.look()

    async def begin_table(self, now: FeedTables) -> FeedTables:
        return await self._tables.begin(now)

    async def change_tables(self, now: FeedTables, wanted: FeedTables) -> None:
        await self._tables.change(now, wanted)

    async def drop_table(self, table: str) -> None:
        await self._tables.drop(table)

    async def generations(self) -> dict[str, NodeSeen]:
        nodes: dict[str, NodeSeen] = {}
        for host_id, generation, heartbeat in await self._read(self._gossip, ()):
            if host_id is None or generation is None:
                continue
            seen = NodeSeen(generation, heartbeat or 0)
            # A node that changed its address is there twice until gossip forgets the old one.
            nodes[str(host_id)] = max(seen, nodes.get(str(host_id), seen))
        return nodes

    async def _gossip_query(self) -> Any:
        """Before 5.0 there is no table of gossip: then the node that answers stands for all."""
        try:
            return await self._session.prepare(_GOSSIP)
        except Bug:
            return await self._session.prepare(_GOSSIP_BEFORE_5)

    async def save_position(
        self,
        name: str,
        topic: str,
        partition: int,
        number: int,
        minute: int,
        generations: Mapping[str, int],
    ) -> None:
        await self._tables.ours()
        ttl_s = self._settings.position_history_minutes * 60
        at = (name, topic, partition)
        newest = (number, *at)
        seen = (ttl_s, dict(generations), *at, minute)
        lowest = (_LOWEST_WINS - number, ttl_s, number, *at, minute)
        await self._session.execute(self._save, (*newest, *seen, *lowest))

    async def positions(
        self, name: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        wanted = list(partitions)
        answers = await asyncio.gather(
            *(self._read(self._newest, (name, topic, number)) for topic, number in wanted)
        )
        return {
            partition: rows[0][0]
            for partition, rows in zip(wanted, answers, strict=True)
            if rows and rows[0][0] is not None
        }

    async def history(self, name: str, topic: str, partition: int) -> list[MinutePosition]:
        limit = self._settings.position_history_minutes
        rows = await self._read(self._history, (name, topic, partition, limit))
        return [
            MinutePosition(minute, number, dict(generations or {}))
            for minute, number, generations in rows
            if minute is not None and number is not None
        ]

    async def log_id(self, mine: int) -> int:
        owner = await self._read(self._owner, ())
        if not owner:
            await self._session.execute(self._own, (mine,))
            owner = await self._read(self._owner, ())
        log_id: int = owner[0][0]
        return log_id

    async def _read(self, statement: Any, values: Sequence[object]) -> list[Any]:
        async with self._reads:
            return await self._session.execute(statement, values)

    async def close(self) -> None:
        await self._session.close()
