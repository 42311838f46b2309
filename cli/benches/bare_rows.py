"""The bare part of the fanout bench: cassandra-driver writing rows that are ready in memory.

Values packed once, unlogged batches handed to the driver as bytes, a bounded number under way;
a table made like Millrace's, in a keyspace of its own.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import Struct

from cassandra import ConsistencyLevel, WriteTimeout
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.query import BatchStatement, BatchType

from millrace.settings import Settings
from millrace.stores.cassandra_schema import statements

KEYSPACE = "bare"
_INSERT = "INSERT INTO feed_by_user (user_id, media_id, author_id) VALUES (?, ?, ?)"
_PACK = Struct(">q").pack
# A machine with much else to do makes a node time out, most of all one that has just started.
_TRIES_AGAIN = 10

Row = tuple[int, int, int]


class BareRows:
    """`write` returns when every row is acknowledged. Blocks: call it in a thread."""

    def __init__(self, session: Session, batch_rows: int, batches_at_once: int) -> None:
        self._session = session
        self._insert = session.prepare(_INSERT)
        self._batch_rows = batch_rows
        self._batches_at_once = batches_at_once

    def write(self, rows: Sequence[Row]) -> None:
        """Raises what the driver raises, when it does so again and again for one batch."""
        free = threading.Semaphore(self._batches_at_once)
        refused: list[BatchStatement] = []

        def send(batch: BatchStatement) -> None:
            def fail(_: Exception) -> None:
                refused.append(batch)
                free.release()

            sent = self._session.execute_async(batch)
            sent.add_callbacks(lambda _: free.release(), fail)

        for start in range(0, len(rows), self._batch_rows):
            free.acquire()
            send(self._packed(rows[start : start + self._batch_rows]))
        for _ in range(self._batches_at_once):
            free.acquire()
        for batch in refused:
            self._again(batch)

    def _again(self, batch: BatchStatement) -> None:
        """One by one: a node that times out has too much to do."""
        for _ in range(_TRIES_AGAIN):
            try:
                self._session.execute(batch)
                return
            except WriteTimeout:
                continue
        self._session.execute(batch)

    def _packed(self, rows: Sequence[Row]) -> BatchStatement:
        query_id = self._insert.query_id
        batch = BatchStatement(BatchType.UNLOGGED)
        batch._statements_and_parameters = [
            (True, query_id, (_PACK(user_id), _PACK(media_id), _PACK(author_id)))
            for user_id, media_id, author_id in rows
        ]
        batch.keyspace = KEYSPACE
        batch.routing_key = _PACK(rows[0][0])
        return batch


@contextmanager
def bare_rows(settings: Settings) -> Iterator[BareRows]:
    profile = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM)
    cluster = Cluster(
        settings.cassandra_hosts.split(","),
        port=settings.cassandra_port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=4,
        compression=False,
    )
    try:
        session = cluster.connect()
        for statement in statements(KEYSPACE, settings.cassandra_dc, 1):
            session.execute(statement, timeout=60)
        session.set_keyspace(KEYSPACE)
        yield BareRows(session, settings.delivery_batch_rows, settings.delivery_batches_parallel)
    finally:
        cluster.shutdown()
