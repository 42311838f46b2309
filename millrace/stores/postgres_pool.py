"""Connections to PostgreSQL: bounded, with deadlines, and with plans that do not wander."""

from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from millrace.settings import Settings

# As text: only the types' stubs know that these are generic.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

# A statement is planned once a connection, maybe while its table is still empty, and that plan
# is then used for ever. So only plans that are right at any size are allowed: look up by index.
_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


async def open_pool(
    settings: Settings,
    dsn: str,
    *,
    schema: str = "",
    begun: Any = None,
) -> Pool:
    """Raises the driver's errors. A transaction left open is ended by the server.

    `schema`: where tables are looked for, if not in the usual one. `begun`: a coroutine
    function, awaited with each new connection, which is not taken when it raises.
    """
    timeout_ms = round(settings.postgres_timeout_s * 1000)
    session = {
        "application_name": "millrace",
        "idle_in_transaction_session_timeout": str(2 * timeout_ms),
        "statement_timeout": str(2 * timeout_ms),
        **_PLANS,
    }
    if schema:
        session["search_path"] = schema
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=settings.postgres_pool_max,
        timeout=settings.postgres_timeout_s,
        command_timeout=settings.postgres_timeout_s,
        # Statements stay prepared as long as the connection lives.
        max_queries=2**62,
        max_inactive_connection_lifetime=0,
        statement_cache_size=1_000,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=0,
        server_settings=session,
        init=begun,
        # Nothing here changes a session, so there is nothing to undo: one round trip less.
        reset=_unchanged,
    )


async def _unchanged(connection: Any) -> None:
    return None
