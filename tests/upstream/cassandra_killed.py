"""Cassandra: acknowledges before its commit log is on disk; kill -9 loses what was just written.

Takes a Cassandra of its own, half a minute.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args

from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import wait_ready
from tests.upstream.servers import ended

ROWS = 3_000


def session_of(port: int) -> tuple[Any, Any]:
    cluster = Cluster(["127.0.0.1"], port=port, protocol_version=4)
    return cluster, cluster.connect()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-upstream-") as folder:
        settings = StackSettings(Path(folder) / "data", servers=("cassandra",), usual_ports=False)
        async with LocalStack(settings) as stack:
            await stack.wait_ready("cassandra")
            port = int(stack.addresses["cassandra_port"])
            cluster, session = await asyncio.to_thread(session_of, port)
            session.execute(
                "CREATE KEYSPACE upstream WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            session.execute("CREATE TABLE upstream.rows (id bigint PRIMARY KEY)")
            insert = session.prepare("INSERT INTO upstream.rows (id) VALUES (?)")
            written = await asyncio.to_thread(
                execute_concurrent_with_args, session, insert, [(n,) for n in range(ROWS)], 200
            )
            acknowledged = sum(1 for one in written if one.success)
            killed = stack.status().pid("cassandra")
            stack.kill("cassandra")
            cluster.shutdown()
            await wait_ready(stack.status_file, "cassandra", not_pid=killed)
            cluster, session = await asyncio.to_thread(session_of, port)
            left = session.execute("SELECT count(*) FROM upstream.rows").one()[0]
            cluster.shutdown()
    print(f"acknowledged: {acknowledged}, there after kill -9: {left}")
    ended(left < acknowledged, "acknowledged rows are lost")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
