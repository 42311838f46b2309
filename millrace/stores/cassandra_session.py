"""One session with Cassandra: awaited from asyncio, with our errors.

The driver runs its own thread; results come back by `call_soon_threadsafe`.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any

from cassandra import (
    ConsistencyLevel,
    DriverException,
    OperationTimedOut,
    RequestValidationException,
)
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    ResultSet,
    Session,
)
from cassandra.connection import ConnectionException
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage

from millrace.errors import Bug, MillraceError, OutcomeUnknown, StoreUnavailable, TablesGone
from millrace.settings import Settings
from millrace.stores.cassandra_rows import PackedRowsHandler
from millrace.stores.cassandra_schema import statements

# Version 5 frames carry a checksum that the driver computes in Python; a pinned version also
# saves the reconnect with which it feels its way down.
_PROTOCOL_VERSION = 4
_DEFINE_TIMEOUT_S = 60
_RECONNECT_FIRST_S = 0.25
_RECONNECT_MAX_S = 2.0
# What the driver raises when servers or connections fail; most have no common ancestor.
_UNAVAILABLE = (NoHostAvailable, DriverException, ConnectionException, ErrorMessage)
# Of a keyspace, or a table, that was there when the statement was prepared.
_GONE = re.compile("unconfigured table|does not exist")
_KEYSPACE = re.compile("[a-z][a-z0-9_]{0,47}")

_Page = tuple[list[Any], bytes | None]


async def connect(settings: Settings) -> "CassandraSession":
    """A session with tables in place; the keyspace is created where it is missing.

    Raises StoreUnavailable when no node answers.
    """
    if not _KEYSPACE.fullmatch(settings.cassandra_keyspace):
        raise Bug(f"not a name of a keyspace: {settings.cassandra_keyspace}")
    return await asyncio.to_thread(_connect, settings)


def _connect(settings: Settings) -> "CassandraSession":
    # It warns at each attempt to reconnect; who cannot read or write says so once.
    logging.getLogger("cassandra.pool").setLevel(logging.ERROR)
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(
            DCAwareRoundRobinPolicy(local_dc=settings.cassandra_dc)
        ),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=settings.cassandra_timeout_s,
    )
    cluster = Cluster(
        settings.cassandra_hosts.split(","),
        port=settings.cassandra_port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=_PROTOCOL_VERSION,
        compression=False,
        connect_timeout=settings.cassandra_timeout_s,
        reconnection_policy=ExponentialReconnectionPolicy(
            _RECONNECT_FIRST_S, _RECONNECT_MAX_S, max_attempts=None
        ),
    )
    try:
        session = cluster.connect()
        session.client_protocol_handler = PackedRowsHandler
        create_schema(session, settings)
    except _UNAVAILABLE as error:
        cluster.shutdown()
        raise _ours(error) from error
    return CassandraSession(cluster, session)


def create_schema(session: Session, settings: Settings) -> None:
    """Keyspace and tables, where they are missing."""
    for statement in statements(
        settings.cassandra_keyspace, settings.cassandra_dc, settings.cassandra_replication
    ):
        session.execute(statement, timeout=_DEFINE_TIMEOUT_S)


class CassandraSession:
    """`execute` from the event loop that runs it; bounding what is in flight is the caller's."""

    def __init__(self, cluster: Cluster, session: Session) -> None:
        self.cluster = cluster
        self.session = session

    async def prepare(self, query: str) -> Any:
        return await asyncio.to_thread(self._prepare, query)

    def _prepare(self, query: str) -> Any:
        try:
            return self.session.prepare(query)
        except _UNAVAILABLE as error:
            raise _ours(error) from error

    async def define(self, statement: str) -> None:
        """A statement that changes the schema; such ones take their time."""
        await asyncio.to_thread(self._define, statement)

    def _define(self, statement: str) -> None:
        try:
            self.session.execute(statement, timeout=_DEFINE_TIMEOUT_S)
        except _UNAVAILABLE as error:
            raise _ours(error) from error

    async def execute(self, statement: Any, values: Sequence[object] | None = None) -> list[Any]:
        """Rows of the first page; `scan` is for more.

        Raises OutcomeUnknown after `cassandra_timeout_s`, StoreUnavailable when no node takes it.
        """
        return (await self.execute_page(statement, values, None))[0]

    async def execute_page(
        self, statement: Any, values: Sequence[object] | None, paging_state: bytes | None
    ) -> _Page:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Page] = loop.create_future()

        def succeed(rows: list[Any] | None) -> None:
            loop.call_soon_threadsafe(
                _finish, done, (rows or [], ResultSet(request, []).paging_state)
            )

        def fail(error: Exception) -> None:
            loop.call_soon_threadsafe(_fail, done, error)

        try:
            request = self.session.execute_async(statement, values, paging_state=paging_state)
            request.add_callbacks(succeed, fail)
            return await done
        except _UNAVAILABLE as error:
            raise _ours(error) from error
        except AttributeError as error:
            # The node has forgotten a statement that was prepared, and so has the driver (3.30),
            # which stumbles where it means to log that. Nodes forget with the table.
            raise TablesGone("Cassandra has forgotten a statement of ours") from error

    async def close(self) -> None:
        await asyncio.to_thread(self.cluster.shutdown)


def _ours(error: Exception) -> MillraceError:
    name = type(error).__name__
    if isinstance(error, RequestValidationException):
        if _GONE.search(str(error)):
            return TablesGone("Cassandra has no such table any more")
        return Bug(f"Cassandra refuses a statement: {name}")
    if isinstance(error, OperationTimedOut):
        return OutcomeUnknown("Cassandra did not answer in time")
    return StoreUnavailable(f"Cassandra does not answer: {name}")


def _finish(done: "asyncio.Future[_Page]", page: "_Page") -> None:
    if not done.done():
        done.set_result(page)


def _fail(done: "asyncio.Future[_Page]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
