"""The local stack keeps its promises: no orphan, no lost data, one launcher, deaths reported."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiokafka
import aiokafka.admin
import asyncpg
import psutil
import pytest
from cassandra.cluster import Cluster, Session

from deploy.local import status
from deploy.local.child import bound_argv
from deploy.local.ports import LOOPBACK, Ports, is_free
from deploy.local.stack import SERVERS
from deploy.local.status import StackStatus

# Those that start within a second or two; what is tested is the same for all four.
QUICK = ("postgres", "memcached")
_READY_TIMEOUT_S = 150
# Of clients, on a machine that does other work.
_PATIENCE_S = 60
# Cassandra hands its commit log to the system at least ten times a second.
_CASSANDRA_FORGETS_S = 0.5

Up = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def up(data_dir: Path) -> Iterator[Up]:
    """Start `up` on the data directory; whatever still runs at the end is stopped."""
    with ExitStack() as at_end:

        def start(*options: str, only: tuple[str, ...] = QUICK) -> subprocess.Popen[str]:
            argv = (sys.executable, "-m", "deploy.local", "up", "--servers-only", "--other-ports")
            launcher = subprocess.Popen(
                bound_argv((*argv, "--data", str(data_dir), *options, "--only", *only)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            at_end.callback(launcher.wait, 120)
            at_end.callback(launcher.terminate)
            return launcher

        yield start


def test_ports_are_the_usual_ones_then_others_and_stay(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        busy = holder.getsockname()[1]
        ports = Ports(tmp_path / "ports.json")
        other = ports.take("server", busy)
        ports.release()
        assert other != busy
        assert is_free(other)
    again = Ports(tmp_path / "ports.json")
    assert again.take("server", busy) == other
    elsewhere = Ports(tmp_path / "elsewhere.json")
    assert elsewhere.take("server", busy) == busy
    assert elsewhere.take("second", other) != other, "chosen by another stack, not yet listening"
    again.release()
    elsewhere.release()


async def test_second_up_says_that_one_is_running(data_dir: Path, up: Up) -> None:
    first = up()
    await _all_ready(data_dir)
    second = up()
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 3
    assert f"in use by process {first.pid}" in said
    assert status.ready(data_dir), "the first one was disturbed"


async def test_sigterm_stops_in_order_and_leaves_no_process(data_dir: Path, up: Up) -> None:
    launcher = up()
    running = await _all_ready(data_dir)
    family = _family(running)
    launcher.terminate()
    assert launcher.wait(30) == 0
    assert not _alive(family)
    assert "database system is shut down" in (data_dir / "logs" / "postgres.log").read_text()
    after = status.read(data_dir)
    assert after is not None
    assert not after.running()


async def test_a_death_is_reported_and_the_child_restarted(data_dir: Path, up: Up) -> None:
    launcher = up()
    before = await _all_ready(data_dir)
    old = before.pid("postgres")
    os.kill(old, signal.SIGKILL)
    after = await status.wait_ready(data_dir, "postgres", not_pid=old)
    assert after.children["postgres"].restarts >= 1
    assert after.pid("memcached") == before.pid("memcached")
    launcher.terminate()
    said, _ = launcher.communicate(timeout=30)
    assert "postgres was killed by signal 9" in said
    assert "ready to accept connections" in said, "its last lines"


async def test_a_death_stops_the_stack_by_a_setting(data_dir: Path, up: Up) -> None:
    launcher = up("--stop-on-death")
    running = await _all_ready(data_dir)
    family = _family(running)
    os.kill(running.pid("memcached"), signal.SIGKILL)
    said, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 1
    assert "memcached was killed by signal 9" in said
    assert not _alive(family)


@pytest.mark.timeout(400)
async def test_sigkill_of_all_keeps_the_data_also_when_ports_are_gone(
    data_dir: Path, up: Up
) -> None:
    """Three kinds of data, and ports that somebody else has taken when we come back."""
    launcher = up(only=SERVERS)
    before = await _all_ready(data_dir)
    with _cassandra(before) as session:
        _write_row(session)
        await _write_record(before)
        await _write_postgres(before)
        _let_cassandra_write(session)
    family = _family(before)
    launcher.kill()
    launcher.wait(30)
    # Nobody is there to order anything: the kernel ends the children.
    psutil.wait_procs(family, timeout=_PATIENCE_S)
    assert not _alive(family)

    with ExitStack() as holders:
        for key in ("kafka", "kafka-controller", "cassandra", "cassandra-storage", "postgres"):
            _hold(holders, data_dir, key)
        up(only=SERVERS)
        after = await _all_ready(data_dir)
        assert after.settings["kafka_bootstrap"] != before.settings["kafka_bootstrap"]
        assert await _read_record(after) == b"kept"
        assert await _read_postgres(after) == 7
        with _cassandra(after) as session:
            rows = session.execute("SELECT v FROM kept.rows WHERE k = 1")
            assert [row.v for row in rows] == [11]


async def _all_ready(data_dir: Path) -> StackStatus:
    return await status.wait_ready(data_dir, timeout_s=_READY_TIMEOUT_S)


def _family(running: StackStatus) -> list[psutil.Process]:
    """The children and all that they started."""
    children = [psutil.Process(running.pid(name)) for name in running.children]
    return [process for child in children for process in [child, *child.children(recursive=True)]]


def _alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [
        process
        for process in family
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def _hold(holders: ExitStack, data_dir: Path, name: str) -> None:
    port = Ports(data_dir / "ports.json").remembered(name)
    assert port is not None
    holder = holders.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((LOOPBACK, port))
    holder.listen()


@contextmanager
def _cassandra(running: StackStatus) -> Iterator[Session]:
    port = running.settings["cassandra_port"]
    cluster = Cluster(
        [LOOPBACK],
        port=port,
        protocol_version=4,
        connect_timeout=_PATIENCE_S,
        control_connection_timeout=_PATIENCE_S,
    )
    try:
        session = cluster.connect()
        session.default_timeout = _PATIENCE_S
        yield session
    finally:
        cluster.shutdown()


def _write_row(session: Session) -> None:
    session.execute(
        "CREATE KEYSPACE kept WITH replication = {'class': 'NetworkTopologyStrategy', 'eu': 1}"
    )
    session.execute("CREATE TABLE kept.rows (k bigint PRIMARY KEY, v bigint)")
    session.execute("INSERT INTO kept.rows (k, v) VALUES (1, 11)")


def _let_cassandra_write(session: Session) -> None:
    """Write other rows until the kept one is older than what a kill may take."""
    until = time.monotonic() + _CASSANDRA_FORGETS_S
    while time.monotonic() < until:
        session.execute("INSERT INTO kept.rows (k, v) VALUES (2, 0)")


async def _write_record(running: StackStatus) -> None:
    bootstrap = running.settings["kafka_bootstrap"]
    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([aiokafka.admin.NewTopic("kept", 1, 1)])
    await admin.close()
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    async with producer:
        await producer.send_and_wait("kept", b"kept")


async def _read_record(running: StackStatus) -> bytes:
    partition = aiokafka.TopicPartition("kept", 0)
    bootstrap = running.settings["kafka_bootstrap"]
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await asyncio.wait_for(consumer.getone(), _PATIENCE_S)
        return bytes(record.value)


async def _write_postgres(running: StackStatus) -> None:
    connection = await asyncpg.connect(running.settings["postgres_dsn"])
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS v")
    await connection.close()


async def _read_postgres(running: StackStatus) -> int:
    connection = await asyncpg.connect(running.settings["postgres_dsn"])
    value: int = await connection.fetchval("SELECT v FROM kept")
    await connection.close()
    return value
