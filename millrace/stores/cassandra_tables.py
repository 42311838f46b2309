"""Which table of feed rows is served, learnt again and again, and the statements for each table.

What a process knows is at most `feed_tables_lease_s` old, or it reads and writes no rows: so that
long after a change everybody goes by it (docs/adr/replay-feed.md).
"""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any

from millrace.errors import StoreUnavailable, TablesGone
from millrace.settings import Settings
from millrace.stores.cassandra_rows import RowPacker
from millrace.stores.cassandra_schema import feed_table
from millrace.stores.cassandra_session import CassandraSession
from millrace.stores.feed_port import FIRST_TABLE, FeedTables, begun_after, tables_changed

_LOOK = "SELECT current, beside, phase, last, made FROM {keyspace}.feed_tables WHERE one = 1"
_FIRST = (
    "INSERT INTO {keyspace}.feed_tables (one, current, beside, phase, last, made)"
    f" VALUES (1, '{FIRST_TABLE}', '', '', 0, ?) IF NOT EXISTS"
)
_CHANGE = (
    "UPDATE {keyspace}.feed_tables SET current = ?, beside = ?, phase = ?, last = ? WHERE one = 1"
    " IF current = ? AND beside = ? AND phase = ? AND last = ? AND made = ?"
)
_INSERT = "INSERT INTO {keyspace}.{table} (user_id, media_id, author_id) VALUES (?, ?, ?)"
_PAGE = "SELECT media_id, author_id FROM {keyspace}.{table} WHERE user_id = ? LIMIT ?"
_PAGE_BEFORE = (
    "SELECT media_id, author_id FROM {keyspace}.{table} WHERE user_id = ? AND media_id < ? LIMIT ?"
)
_STATICS = (
    "SELECT phase, upto, floor, cold_edges, hold, hold_from FROM {keyspace}.{table}"
    " WHERE user_id = ? LIMIT 1"
)
_HAS = "SELECT media_id FROM {keyspace}.{table} WHERE user_id = ? AND media_id IN ?"
_SCAN = "SELECT user_id, media_id, author_id FROM {keyspace}.{table}"
_SCAN_PAGE_ROWS = 5_000
# The current one, the one beside, and those that were so a moment ago.
_PREPARED_MAX = 4


@dataclass(frozen=True, slots=True)
class TableStatements:
    """Prepared, of one table."""

    packer: RowPacker
    page: Any
    page_before: Any
    statics: Any
    has: Any
    scan: Any


class CassandraTables:
    """One a process."""

    def __init__(self, session: CassandraSession, settings: Settings) -> None:
        self._session = session
        self._keyspace = settings.cassandra_keyspace
        self._refresh_s = settings.feed_tables_refresh_s
        self._lease_s = settings.feed_tables_lease_s
        self._learning = asyncio.Lock()
        self._prepared: dict[str, TableStatements] = {}
        self._known: FeedTables
        self._made = 0
        self._learnt_s = self._looked_s = 0.0

    async def prepare(self) -> None:
        """Once, before anything else."""
        self._look = await self._session.prepare(_LOOK.format(keyspace=self._keyspace))
        self._first = await self._session.prepare(_FIRST.format(keyspace=self._keyspace))
        self._change = await self._session.prepare(_CHANGE.format(keyspace=self._keyspace))
        if not await self._session.execute(self._look, ()):
            await self._session.execute(self._first, (secrets.randbits(62),))
        self._learnt_s = self._looked_s = time.monotonic()
        self._known = await self.look()
        self._made = self._known.made
        await self.of(self._known.current)

    async def look(self) -> FeedTables:
        """As they are now. Raises TablesGone when the store was emptied."""
        rows = await self._session.execute(self._look, ())
        if not rows:
            raise TablesGone("the feed store was emptied")
        return FeedTables(*rows[0])

    async def known(self) -> FeedTables:
        """As they were at most a lease ago. Raises StoreUnavailable when that is not known."""
        if time.monotonic() - self._looked_s >= self._refresh_s:
            async with self._learning:
                if time.monotonic() - self._looked_s >= self._refresh_s:
                    await self._learn()
        if time.monotonic() - self._learnt_s > self._lease_s:
            raise StoreUnavailable("it is not known which feed table is served")
        return self._known

    async def ours(self) -> FeedTables:
        """As `known`, for who writes. Raises TablesGone when the store was made anew since this
        process opened it: rows and positions of before are gone.
        """
        known = await self.known()
        if known.made != self._made:
            raise TablesGone("the feed store was made anew")
        return known

    async def _learn(self) -> None:
        asked_s = self._looked_s = time.monotonic()
        try:
            self._known, self._learnt_s = await self.look(), asked_s
        except TablesGone:
            raise
        except StoreUnavailable:
            # The lease decides.
            return

    async def of(self, table: str) -> TableStatements:
        if table not in self._prepared:
            statements = await self._prepare(table)
            while len(self._prepared) >= _PREPARED_MAX:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[table] = statements
        return self._prepared[table]

    async def _prepare(self, table: str) -> TableStatements:
        async def prepare(statement: str) -> Any:
            return await self._session.prepare(
                statement.format(keyspace=self._keyspace, table=table)
            )

        scan = await prepare(_SCAN)
        scan.fetch_size = _SCAN_PAGE_ROWS
        return TableStatements(
            packer=RowPacker(await prepare(_INSERT)),
            page=await prepare(_PAGE),
            page_before=await prepare(_PAGE_BEFORE),
            statics=await prepare(_STATICS),
            has=await prepare(_HAS),
            scan=scan,
        )

    async def begin(self, now: FeedTables) -> FeedTables:
        begun = begun_after(now)
        await self._session.define(feed_table(self._keyspace, begun.beside))
        await self.change(now, begun)
        return begun

    async def change(self, now: FeedTables, wanted: FeedTables) -> None:
        values = (*wanted[:4], *now)
        applied = await self._session.execute(self._change, values)
        if not applied[0][0]:
            raise tables_changed()
        self._looked_s = 0.0

    async def drop(self, table: str) -> None:
        feed_table(self._keyspace, table)
        await self._session.define(f"DROP TABLE IF EXISTS {self._keyspace}.{table}")
        self._prepared.pop(table, None)
