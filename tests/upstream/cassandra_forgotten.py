"""Cassandra's driver: stumbles over a batch whose prepared statement both sides have forgotten."""

import gc
import secrets
from typing import Any

from cassandra.cluster import Cluster, Session
from cassandra.protocol import ErrorMessage
from cassandra.query import BatchStatement

from tests.upstream.servers import address, ended

TRIES_MAX = 10


def batch_into(session: Session, table: str) -> BatchStatement:
    batch = BatchStatement()
    # The batch keeps the statement's id and values, and nobody keeps the statement.
    batch.add(session.prepare(f"INSERT INTO {table} (id) VALUES (?)"), (1,))
    return batch


def main() -> None:
    keyspace = f"upstream_{secrets.token_hex(5)}"
    host, port = address("cassandra_hosts").split(",")[0], int(address("cassandra_port"))
    cluster: Any = Cluster(
        [host], port=port, protocol_version=4, connect_timeout=60, control_connection_timeout=60
    )
    session = cluster.connect()
    session.default_timeout = 60
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
    session.execute(f"CREATE TABLE {keyspace}.rows (id bigint PRIMARY KEY)")
    batch = batch_into(session, f"{keyspace}.rows")
    gc.collect()
    # With the table the node forgets what was prepared for it.
    session.execute(f"DROP KEYSPACE {keyspace}")
    told: Exception | None = None
    tries = 0
    while not isinstance(told, AttributeError) and tries < TRIES_MAX:
        tries += 1
        try:
            session.execute(batch)
        except (ErrorMessage, AttributeError) as error:
            told = error
    cluster.shutdown()
    print(f"a batch of a forgotten statement: {type(told).__name__}: {told}, at try {tries}")
    ended(isinstance(told, AttributeError), "the driver stumbles where it means to log that")


if __name__ == "__main__":
    main()
