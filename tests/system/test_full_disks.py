"""A full disk under each server, and under the objects, under recorded traffic.

While it is full calls are refused as passing (UNAVAILABLE), nothing that was acknowledged is lost;
when there is space again all goes on, by itself.
"""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from cassandra import DriverException
from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.protocol import ErrorMessage

from deploy.local.stack import LocalStack
from tests.fault_rounds import FaultRounds, fault_rounds
from tests.session_history import Outcome
from tests.small_disk import SmallDisk
from tests.system.test_kills_of_servers import BOUND_S, SERVERS, own_servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]

# What a fresh server takes, and as much again.
SIZES_MB = {"kafka": 300, "cassandra": 500, "postgres": 400}
_POLL_S = 0.05
# The longest until a full disk is felt.
_FELT_S = 60.0


@dataclass
class Disks:
    rounds: FaultRounds
    own: LocalStack
    disks: dict[str, SmallDisk]


@pytest.fixture(scope="module")
async def world(module_folder: Path) -> AsyncIterator[Disks]:
    data_dir = module_folder / "data"
    data_dir.mkdir(mode=0o711)
    user = pwd.getpwnam("postgres").pw_uid
    users = {"postgres": user}
    with ExitStack() as mounted:
        disks = {
            name: mounted.enter_context(
                SmallDisk(
                    data_dir / name,
                    module_folder / f"{name}.img",
                    size_mb=size_mb,
                    user=users.get(name, 0),
                )
            )
            for name, size_mb in SIZES_MB.items()
        }
        # As the stack makes it, where it finds no folder.
        run = data_dir / "postgres" / "run"
        run.mkdir(mode=0o700)
        os.chown(run, user, -1)
        disks["objects"] = mounted.enter_context(
            SmallDisk(module_folder / "objects", module_folder / "objects.img", size_mb=64)
        )
        async with (
            own_servers(data_dir, *SERVERS) as own,
            fault_rounds(own.status(), own, module_folder) as rounds,
        ):
            connection = await asyncpg.connect(str(own.addresses["postgres_dsn"]))
            await connection.execute("CREATE TABLE scratch AS SELECT 'x' AS text")
            await connection.close()
            yield Disks(rounds, own, disks)


async def met(world: Disks, name: str, felt: Callable[[], Awaitable[None]]) -> None:
    """A round in which the disk is full until `felt` returns."""

    async def fault() -> None:
        world.disks[name].fill()
        try:
            async with asyncio.timeout(_FELT_S):
                await felt()
        finally:
            world.disks[name].free()

    await world.rounds.meet(f"{name}: full disk", fault, bound_s=BOUND_S)


async def test_objects(world: Disks) -> None:
    session = world.rounds.sessions.all[0]
    writes = session.world.history.writes

    async def felt() -> None:
        await session.upload()
        mine = [one for one in writes if one.session == session.number and one.key[0] == "media"]
        assert mine[-1].outcome is not Outcome.DONE

    await met(world, "objects", felt)


async def test_kafka(world: Disks) -> None:
    """It ends itself; the supervisor tries until there is space."""
    first = world.rounds.pid("kafka")

    async def felt() -> None:
        while world.own.status().children["kafka"].restarts == 0:
            await asyncio.sleep(_POLL_S)

    await met(world, "kafka", felt)
    assert world.rounds.pid("kafka") != first


async def test_postgres_that_cannot_grow_a_table(world: Disks) -> None:
    """Statements are refused, the server lives."""

    async def felt() -> None:
        async with scratch(world) as connection:
            with pytest.raises(asyncpg.DiskFullError):
                await connection.execute(
                    "INSERT INTO scratch SELECT repeat('x', 7000) FROM generate_series(1, 2000)"
                )
            await world.rounds.all_tried()

    await met(world, "postgres", felt)


async def test_postgres_that_cannot_grow_its_log(world: Disks) -> None:
    """It ends all sessions and begins again, until there is space."""

    async def felt() -> None:
        async with scratch(world) as connection:
            with suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError):
                while True:
                    await connection.execute("UPDATE scratch SET text = 'y'")
                    await connection.execute("SELECT pg_switch_wal()")

    await met(world, "postgres", felt)


@asynccontextmanager
async def scratch(world: Disks) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """To a table of one row, in a database that has no other."""
    connection = await asyncpg.connect(str(world.own.addresses["postgres_dsn"]))
    try:
        yield connection
    finally:
        await connection.close()


async def test_cassandra(world: Disks) -> None:
    """It ends itself when it cannot write its commit log, and is started until there is space."""
    first = world.rounds.pid("cassandra")

    async def felt() -> None:
        while world.own.status().children["cassandra"].restarts == 0:
            with suppress(NoHostAvailable, DriverException, ErrorMessage):
                await asyncio.to_thread(_write_much, world)
            await asyncio.sleep(_POLL_S)

    await met(world, "cassandra", felt)
    assert world.rounds.pid("cassandra") != first


def _write_much(world: Disks) -> None:
    """More than a segment of the commit log."""
    addresses = world.own.addresses
    cluster = Cluster(
        [addresses["cassandra_hosts"]], port=addresses["cassandra_port"], protocol_version=4
    )
    try:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS scratch"
            " WITH replication = {'class': 'NetworkTopologyStrategy', 'eu': 1}"
        )
        session.execute("CREATE TABLE IF NOT EXISTS scratch.rows (k int PRIMARY KEY, v blob)")
        for key in range(200):
            session.execute(
                "INSERT INTO scratch.rows (k, v) VALUES (%s, %s)", (key, bytes(500_000))
            )
    finally:
        cluster.shutdown()
