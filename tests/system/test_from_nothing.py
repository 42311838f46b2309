"""PostgreSQL's database, Cassandra's keyspace and memcached's content lost at once: the runbook's
commands bring all back, equal; until then calls are refused, never answered wrongly.
"""

import asyncio
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest

from cli.processes import ROOT
from deploy.local.status import StackStatus
from millrace.client import Session
from millrace.client.connections import Stubs
from millrace.stores.cassandra_session import connect
from millrace.traffic.record import Record
from social.v1 import users_pb2
from streams.progress import published
from tests.running import RunningMillrace, running_millrace
from tests.system.test_faults import equal, some_life
from tests.system.test_main_job import like, picture

__all__ = ["running_millrace"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMANDS = (
    "millrace migrate",
    "millrace replay all --no-compare",
    "millrace owed",
    "millrace replay all --drop-old",
)
PATIENCE_S = 300
FINE = "the right answer"


async def command(millrace: RunningMillrace, line: str) -> None:
    """One line of the runbook, in the processes' environment."""
    settings = millrace.settings
    names = (
        *("stack_file", "postgres_dsn", "topic_prefix", "cassandra_keyspace", "keys_dir"),
        *("objects_url", "log_partitions"),
    )
    environment = {f"MILLRACE_{name.upper()}": str(getattr(settings, name)) for name in names}
    _, *words = line.split()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *words),
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": ".:protos/gen"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    print(f"$ {line}\n{output.decode()}")
    assert process.returncode == 0, output.decode()


async def lose_everything(stack: StackStatus, millrace: RunningMillrace) -> None:
    settings = millrace.settings
    name = urlsplit(settings.postgres_dsn).path.removeprefix("/")
    server = await asyncpg.connect(str(stack.settings["postgres_dsn"]))
    cassandra = await connect(settings)
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await cassandra.define(f"DROP KEYSPACE {settings.cassandra_keyspace}")
    host, _, port = settings.memcached_address.rpartition(":")
    with socket.create_connection((host, int(port))) as cache:
        cache.sendall(b"flush_all\r\n")
        assert cache.recv(64).startswith(b"OK")
    await cassandra.close()
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()


class Asking:
    """Asks again and again who a person is, and counts the answers by their kind."""

    def __init__(self, address: str, session: Session, handle: str) -> None:
        self.answers: Counter[str] = Counter()
        self._address = address
        self._session = session
        self._handle = handle

    async def run(self) -> None:
        request = users_pb2.GetUsersRequest(user_ids=[self._session.user_id])
        metadata = [("authorization", f"Bearer {self._session.access_token}")]
        async with grpc.aio.insecure_channel(self._address) as channel:
            stubs = Stubs(channel)
            while True:
                try:
                    answer = await stubs.users.GetUsers(request, metadata=metadata, timeout=5)
                except grpc.aio.AioRpcError as error:
                    self.answers[error.code().name] += 1
                else:
                    right = [user.handle for user in answer.users] == [self._handle]
                    self.answers[FINE if right else f"wrong: {answer}"] += 1
                await asyncio.sleep(0.02)

    async def until(self, answer: str) -> None:
        """The next such answer."""
        before = self.answers[answer]
        async with asyncio.timeout(PATIENCE_S):
            while self.answers[answer] == before:
                await asyncio.sleep(0.05)


def test_the_commands_are_those_of_the_runbook() -> None:
    text = (Path(ROOT) / "docs" / "runbook.md").read_text()
    section = text.split("## From nothing")[1]
    places = [section.index(line) for line in COMMANDS]
    assert places == sorted(places)


async def test_all_stores_lost_at_once_come_back_equal(
    stack: StackStatus, running_millrace: RunningMillrace
) -> None:
    millrace = running_millrace
    ana, ben, cleo = await some_life(millrace, "ana", "ben", "cleo")
    for number in range(5):
        item = await millrace.client.upload(ana, picture(number), f"picture {number}")
        await like(millrace.client, ben, item.id)
    await equal(millrace, dead=0)
    before = await published(millrace.stores.log)
    asking = Asking(millrace.installation.grpc_address, ana, "ana")
    running = asyncio.create_task(asking.run())
    await asking.until(FINE)

    await lose_everything(stack, millrace)
    await asking.until("UNAVAILABLE")
    for line in COMMANDS:
        await command(millrace, line)
    await asking.until(FINE)
    running.cancel()
    print(dict(asking.answers))

    await equal(millrace, dead=0)
    for check in await millrace.all_checks([ana, ben, cleo], Record()):
        assert check.passed, check
    assert set(asking.answers) <= {FINE, "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    after = await published(millrace.stores.log)
    for view, was in before.items():
        assert after[view].epoch >= was.epoch
