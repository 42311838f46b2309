"""A view's tables beside the served ones: in the schema `replay_<view>` of the same database.

Made from the same declarations, with positions of their own, so that the same statements work on
both; only the search path differs. While a replay builds, the schema holds what is built; after
the switch it holds what was served before, at its own positions. See docs/adr/replay.md.

Not: loading (`postgres_load`), comparing (`postgres_compare`), what is applied (`PostgresStore`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.settings import Settings
from millrace.stores import ddl, postgres_positions
from millrace.stores.migrate import check_schema
from millrace.stores.port import StoredPosition
from millrace.stores.postgres_errors import translated
from millrace.stores.postgres_pool import Connection
from millrace.stores.schema import ViewSchema

TopicPartition = tuple[str, int]

# What the schema holds.
LOADING = "loading"  # tables without keys, filled by COPY
KEYING = "keying"  # all is copied; keys and counts are being made
REPEATING = "repeating"  # what came to a pair more than once is applied
FOLLOWING = "following"  # whole tables that follow the log like the served ones
KEPT = "kept"  # what was served until the switch

# With the view's name it locks a replay: one at a time for a view.
_LOCK = 0x7265706C
_LOCK_WAIT_S = 15.0
_LOCK_POLL_S = 0.25
_STATE = """
CREATE TABLE replay_state (
  phase text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  switched_at timestamptz
)"""
_DEAD = """
CREATE TABLE replay_dead (
  topic text COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  number bigint NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (topic, partition, number)
)"""
DEAD_REASON_MAX = 1_000
# Columns that only one of two schemas has in these tables.
_DIFFERENT = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_name = ANY($1) AND table_schema IN ($2, $3)
GROUP BY table_name, column_name, data_type HAVING count(*) <> 2"""
# The first wait for the tables' locks, which readers have to wait behind; it doubles.
_LOCK_FIRST_MS = 50
_LOCK_MAX_MS = 1_600
_LOCK_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class BesideState:
    """`switched`: empty before the switch."""

    phase: str
    started: str
    switched: str


@dataclass(frozen=True, slots=True)
class DeadFound:
    """An event that the replayed view could not take."""

    topic: str
    partition: int
    number: int
    reason: str


def schema_of(view: str) -> str:
    return f"replay_{view}"


async def connect(settings: Settings, *, schema: str = "") -> asyncpg.Connection:
    """A connection for long statements, planned by what the tables hold at that moment.

    What its process leaves behind when it is killed is ended by the server within a second.
    """
    session = {
        "application_name": "millrace replay",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "client_connection_check_interval": "1000",
        "synchronous_commit": "off",
        "jit": "off",
        "work_mem": f"{settings.replay_memory_mib}MB",
        "maintenance_work_mem": f"{settings.replay_memory_mib}MB",
    }
    if schema:
        session["search_path"] = schema
    return await asyncpg.connect(
        settings.postgres_dsn, timeout=settings.postgres_timeout_s, server_settings=session
    )


class Beside:
    """One view's tables beside the served ones. While it is open no other replay of it runs."""

    def __init__(
        self, settings: Settings, view: ViewSchema, connection: asyncpg.Connection
    ) -> None:
        self.settings = settings
        self.view = view
        self.schema = schema_of(view.view)
        self.connection = connection
        self._names = ddl.table_names(view)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, view: ViewSchema) -> AsyncIterator["Beside"]:
        """Raises FailedPrecondition where another replay of the view runs, or the schema is not
        the code's.
        """
        with translated("connect"):
            connection = await connect(settings)
        try:
            with translated(f"replay of {view.view}"):
                await check_schema(connection)
                await _lock(connection, view.view)
                yield cls(settings, view, connection)
        finally:
            await connection.close(timeout=settings.postgres_timeout_s)

    async def state(self) -> BesideState | None:
        """None where there is nothing beside the served tables."""
        return await state_of(self.connection, self.view)

    async def create(self, partitions: Mapping[str, int], log_id: int, phase: str) -> None:
        """Empty tables, positions at 0."""
        async with self.connection.transaction():
            await self.connection.execute(f"CREATE SCHEMA {self.schema}")
            await self.connection.execute(f"SET LOCAL search_path = {self.schema}")
            for statement in ddl.statements([self.view]).values():
                await self.connection.execute(statement)
            await self.connection.execute(_STATE)
            await self.connection.execute(_DEAD)
            await self.connection.execute("INSERT INTO replay_state (phase) VALUES ($1)", phase)
            await postgres_positions.open_view(self.connection, self.view, partitions, log_id)

    async def enter(self, phase: str) -> None:
        await self.connection.execute(f"UPDATE {self.schema}.replay_state SET phase = $1", phase)

    async def drop(self) -> None:
        await self.connection.execute(f"DROP SCHEMA {self.schema} CASCADE")

    async def settle(self, *, analyze: bool) -> None:
        """Pages marked as visible, so that reads by the index alone need no visit; statistics where
        they are asked for.
        """
        options = "(ANALYZE)" if analyze else ""
        for name in self._names:
            await self.connection.execute(f"VACUUM {options} {self.schema}.{ddl.quoted(name)}")

    async def positions(self) -> dict[TopicPartition, int]:
        stored = await postgres_positions.positions_in(self.connection, self.schema, self.view.view)
        return {place: row.position for place, row in stored.items()}

    async def served_positions(self) -> dict[TopicPartition, int]:
        """Empty where the served view was never opened."""
        served = await postgres_positions.positions(self.connection, self.view.view)
        return {place: row.position for place, row in served.items()}

    async def bury(self, dead: Sequence[DeadFound]) -> None:
        """Notes events that the view cannot take. What is noted already stays."""
        await bury(self.connection, self.schema, dead)

    async def dead(self, found_max: int) -> tuple[int, list[DeadFound]]:
        """How many, and the first."""
        count: int = await self.connection.fetchval(
            f"SELECT count(*) FROM {self.schema}.replay_dead"
        )
        records = await self.connection.fetch(
            f"SELECT topic, partition, number, reason FROM {self.schema}.replay_dead"
            " ORDER BY topic, partition, number LIMIT $1",
            found_max,
        )
        return count, [DeadFound(*record) for record in records]

    async def switch(
        self, reach: Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
    ) -> None:
        """The tables beside become the served ones, and the served ones those beside; so do their
        positions. The served positions never fall: where the tables beside are further than they,
        they jump, which a projector takes like another worker's apply.

        `reach` is asked, while the projector waits, to bring the tables beside at least to where
        the served ones are. Raises StoreUnavailable, and nothing is changed, when that takes
        longer than `replay_switch_wait_s`, or readers do not let the tables go; FailedPrecondition
        where a migration has changed the served tables since.
        """
        connection = self.connection
        await self._check_columns()
        async with connection.transaction():
            served = await self._served_locked()
            try:
                async with asyncio.timeout(self.settings.replay_switch_wait_s):
                    await reach({place: row.position for place, row in served.items()})
            except TimeoutError:
                raise StoreUnavailable(
                    f"{self.view.view} did not come to where the served view is in time"
                ) from None
            beside = await self.positions()
            behind = [place for place, row in served.items() if beside[place] < row.position]
            if behind:
                raise StoreUnavailable(f"{self.view.view} is behind the served view at {behind}")
            await self._exchange_positions(served, beside)
            await connection.execute(
                f"UPDATE {self.schema}.replay_state SET phase = $1, switched_at = now()", KEPT
            )
            await self._exchange_tables()

    async def _check_columns(self) -> None:
        """Raises FailedPrecondition where a migration came after the tables beside."""
        served = (await self._served_schema()).strip('"')
        different = await self.connection.fetch(_DIFFERENT, self._names, served, self.schema)
        if different:
            names = ", ".join(sorted({table for table, _ in different}))
            raise FailedPrecondition(
                f"{names} beside {self.view.view} are of another schema:"
                f" `millrace replay {self.view.view} --drop-old`, and build them anew"
            )

    async def _served_locked(self) -> dict[TopicPartition, StoredPosition]:
        """In the order in which batches lock them. The projector waits from here on.

        A view of a new database may not have been opened yet: then it is, at 0.
        """
        ours = await postgres_positions.positions_in(self.connection, self.schema, self.view.view)
        partitions: dict[str, int] = {}
        for topic, partition in ours:
            partitions[topic] = max(partitions.get(topic, 0), partition + 1)
        log_id = next(row.log_id for row in ours.values())
        await postgres_positions.open_view(self.connection, self.view, partitions, log_id)
        return await postgres_positions.lock(self.connection, self.view.view)

    async def _exchange_tables(self) -> None:
        """Comes last, and the tables beside are put near first, so that readers find the served
        ones locked for as short as can be: one statement and the commit.
        """
        execute, served = self.connection.execute, await self._served_schema()
        names = [ddl.quoted(name) for name in self._names]
        between = f"{self.schema}_switch"
        await execute(f"CREATE SCHEMA {between}")
        await execute(
            ";".join(f"ALTER TABLE {self.schema}.{n} SET SCHEMA {between}" for n in names)
        )
        exchange = [
            f"ALTER TABLE {served}.{name} SET SCHEMA {self.schema};"
            f" ALTER TABLE {between}.{name} SET SCHEMA {served}"
            for name in names
        ]
        await self._lock_tables([f"{served}.{name}" for name in names])
        await execute(";".join([*exchange, f"DROP SCHEMA {between}"]))

    async def _lock_tables(self, tables: Sequence[str]) -> None:
        """Who reads meanwhile waits behind us, so we wait for readers only shortly, and again;
        longer each time, since an autovacuum gives way after a second.
        """
        wait_ms = _LOCK_FIRST_MS
        while True:
            try:
                async with self.connection.transaction():
                    await self.connection.execute(f"SET LOCAL lock_timeout = {wait_ms}")
                    await self.connection.execute(
                        f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"
                    )
                return
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                wait_ms *= 2
            if wait_ms > _LOCK_MAX_MS:
                raise StoreUnavailable(f"somebody reads {self.view.view} for too long")
            await asyncio.sleep(_LOCK_PAUSE_S)

    async def _exchange_positions(
        self, served: Mapping[TopicPartition, StoredPosition], beside: Mapping[TopicPartition, int]
    ) -> None:
        schema = await self._served_schema()
        theirs = {place: row.position for place, row in served.items()}
        for into, positions in ((schema, beside), (self.schema, theirs)):
            await postgres_positions.put(self.connection, into, self.view.view, positions)

    async def _served_schema(self) -> str:
        return ddl.quoted(await self.connection.fetchval("SELECT current_schema()"))


async def look_beside(
    settings: Settings, view: ViewSchema
) -> tuple[BesideState | None, dict[TopicPartition, int]]:
    """What lies beside a view, and its positions; also while a replay of it runs."""
    with translated("connect"):
        connection = await connect(settings)
    try:
        with translated(f"look beside {view.view}"):
            state = await state_of(connection, view)
            if state is None:
                return None, {}
            return state, await Beside(settings, view, connection).positions()
    finally:
        await connection.close(timeout=settings.postgres_timeout_s)


async def bury(connection: Connection, schema: str, dead: Sequence[DeadFound]) -> None:
    """As `Beside.bury`, in the transaction of another connection."""
    await connection.executemany(
        f"INSERT INTO {schema}.replay_dead VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        [(one.topic, one.partition, one.number, one.reason[:DEAD_REASON_MAX]) for one in dead],
    )


async def state_of(connection: Connection, view: ViewSchema) -> BesideState | None:
    schema = schema_of(view.view)
    if not await connection.fetchval("SELECT to_regclass($1)", f"{schema}.replay_state"):
        return None
    phase, started, switched = await connection.fetchrow(  # type: ignore[misc]
        f"SELECT phase, date_trunc('second', started_at)::text,"
        f" coalesce(date_trunc('second', switched_at)::text, '') FROM {schema}.replay_state"
    )
    return BesideState(phase, started, switched)


async def _lock(connection: asyncpg.Connection, view: str) -> None:
    """A killed replay's statement may run on for a moment: it is waited for."""
    ends_s = asyncio.get_running_loop().time() + _LOCK_WAIT_S
    while not await connection.fetchval(
        "SELECT pg_try_advisory_lock($1, hashtext($2))", _LOCK, view
    ):
        if asyncio.get_running_loop().time() > ends_s:
            raise FailedPrecondition(f"another replay of {view} is running")
        await asyncio.sleep(_LOCK_POLL_S)
