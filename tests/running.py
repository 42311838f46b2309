"""`running_millrace`: Millrace's own processes on the session's servers, with names of their own.

    async def test_x(running_millrace: RunningMillrace) -> None:
        ana = await running_millrace.client.register("ana", PASSWORD)
        await running_millrace.kill("projector")           # SIGKILL; ready again when it returns
        await running_millrace.process_all()

One set for a module. The processes are children of the test process, supervised as by `up`.
"""

import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from cli.installation import Installation, start_own
from cli.stores import OpenStores, open_stores
from deploy.local.child import Child
from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import FILE, StackStatus, wait_ready
from deploy.local.watch import RestartPolicy
from millrace.auth.keys import Keys, load_keys
from millrace.client import Client, Session
from millrace.clock import SystemClock
from millrace.settings import Settings
from millrace.traffic.checks import Check, Checks, stored_edges
from millrace.traffic.graph_load import load_graph
from millrace.traffic.history import History, read_history
from millrace.traffic.record import Record
from millrace.views import lag
from millrace.views.follows import FOLLOWS
from millrace.views.likes import LIKES
from streams.owed_rows import check_owed_rows

PASSWORD = "correct horse"
CATCH_UP_S = 60.0
_RESTARTS_A_MINUTE_MAX = 100
_READY_S = 600.0


class PatientStack(LocalStack):
    """Nobody is killed for a slow start: on a busy machine that would only make it later."""

    def add(self, child: Child) -> None:
        super().add(replace(child, ready_timeout_s=_READY_S))


@dataclass(frozen=True)
class RunningMillrace:
    """`supervisor` holds the processes, `stores` is this test's own look at the stores."""

    supervisor: LocalStack
    installation: Installation
    stores: OpenStores
    client: Client

    @property
    def settings(self) -> Settings:
        return self.installation.settings

    @property
    def names(self) -> tuple[str, ...]:
        """Of the processes: grpc-0, grpc-1, projector, …"""
        return self.installation.names

    @property
    def keys(self) -> Keys:
        return load_keys(self.settings.keys_dir)

    def pid(self, name: str) -> int:
        return self.supervisor.status().pid(name)

    async def kill(self, *names: str, sig: signal.Signals = signal.SIGKILL) -> None:
        """All at once; returns when the supervisor has them ready again, as new processes."""
        pids = {name: self.pid(name) for name in names}
        for name in names:
            self.supervisor.kill(name, sig)
        for name, pid in pids.items():
            await wait_ready(self.supervisor.status_file, name, not_pid=pid)

    async def process_all(self) -> None:
        """Until everything that is in the log now is in the views and feeds."""
        await lag.wait_until_none(self.stores, SystemClock(), timeout_s=CATCH_UP_S)

    async def history(self) -> History:
        return await read_history(self.stores.log, self.keys.master)

    async def all_checks(self, sessions: Sequence[Session], record: Record) -> list[Check]:
        """Waits for the processors, then runs every check that the demo runs.

        `sessions`: whose feeds are read; the first one looks at everything else.
        """
        await self.process_all()
        history = await self.history()
        checks = [check async for check in Checks(self.client, sessions, record, history).all()]
        views, oracle = self.stores.views, history.oracle
        checks.append(await stored_edges(views, FOLLOWS.table, "follows", oracle.following))
        checks.append(await stored_edges(views, LIKES.table, "likes", oracle.likers))
        found = await check_owed_rows(self.stores.log, views, self.stores.feeds)
        wrong = found.missing_count + found.unplanned_count
        checks.append(Check("owed rows", found.checked, wrong))
        return checks

    async def people(self, following: Sequence[Sequence[int]]) -> list[int]:
        """The user ids of a graph's people, loaded and in the views. Once a RunningMillrace."""
        ids = await load_graph(
            self.stores.log, self.keys, SystemClock(), self.settings, following, told=print
        )
        await self.process_all()
        return ids


@pytest.fixture(scope="module")
async def running_millrace(
    stack: StackStatus, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningMillrace]:
    async with running(stack, tmp_path_factory.mktemp("millrace")) as millrace:
        yield millrace


@asynccontextmanager
async def running(
    stack: StackStatus, folder: Path, *, postgres_dsn: str = "", **changed: object
) -> AsyncIterator[RunningMillrace]:
    """`postgres_dsn`: another PostgreSQL than the stack's. `changed`: settings."""
    name = f"t{secrets.token_hex(5)}"
    async with _database(postgres_dsn or str(stack.settings["postgres_dsn"]), name) as dsn:
        environment = {
            "MILLRACE_STACK_FILE": str(Path(stack.data_dir) / FILE),
            "MILLRACE_POSTGRES_DSN": dsn,
            "MILLRACE_TOPIC_PREFIX": f"{name}.",
            "MILLRACE_CASSANDRA_KEYSPACE": name,
            "MILLRACE_KEYS_DIR": str(folder / "keys"),
            "MILLRACE_OBJECTS_URL": f"file://{folder / 'objects'}",
            "MILLRACE_LOG_PARTITIONS": "4",
            **{f"MILLRACE_{setting.upper()}": str(value) for setting, value in changed.items()},
        }
        supervised = StackSettings(
            data_dir=folder / "processes",
            servers=(),
            usual_ports=False,
            restarts=RestartPolicy(restarts_a_minute_max=_RESTARTS_A_MINUTE_MAX),
        )
        async with PatientStack(supervised) as supervisor:
            installation = await start_own(supervisor, environment, told=print)
            client = Client(installation.grpc_address)
            try:
                async with open_stores(installation.settings) as stores:
                    yield RunningMillrace(supervisor, installation, stores, client)
            finally:
                await client.close()


@asynccontextmanager
async def _database(dsn: str, name: str) -> AsyncIterator[str]:
    """The address of a new, empty database; dropped afterwards."""
    await _execute(dsn, f"CREATE DATABASE {name}")
    yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    await _execute(dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _execute(dsn: str, statement: str) -> None:
    """On a connection of its own: the server may have been put back in between."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
