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
from social.v1 import media_pb2, users_pb2
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


def environment_of(millrace: RunningMillrace) -> dict[str, str]:
    """The processes' environment, for a command."""
    names = (
        *("stack_file", "postgres_dsn", "topic_prefix", "cassandra_keyspace", "keys_dir"),
        *("objects_url", "log_partitions"),
    )
    settings = millrace.settings
    found = {f"MILLRACE_{name.upper()}": str(getattr(settings, name)) for name in names}
    return {**found, "PYTHONPATH": ".:protos/gen"}


async def command(millrace: RunningMillrace, line: str) -> None:
    """One line of the runbook, in the processes' environment."""
    _, *words = line.split()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *words),
        cwd=ROOT,
        env={**os.environ, **environment_of(millrace)},
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
    host, _, port = settings.memcached_addresses.rpartition(":")
    with socket.create_connection((host, int(port))) as cache:
        cache.sendall(b"flush_all\r\n")
        assert cache.recv(64).startswith(b"OK")
    await cassandra.close()
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()


class Asking:
    """Asks again and again who a person is, and with `media_id` how many like it, which must not
    fall; counts the answers by their kind.
    """

    def __init__(self, address: str, session: Session, handle: str, media_id: int = 0) -> None:
        self._media_id = media_id
        self._likes = 0
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
                    likes = await self._likes_now(stubs, metadata)
                except grpc.aio.AioRpcError as error:
                    self.answers[error.code().name] += 1
                else:
                    right = [user.handle for user in answer.users] == [self._handle]
                    right = right and likes >= self._likes
                    self.answers[FINE if right else f"wrong: {answer}, {likes} likes"] += 1
                    self._likes = likes
                await asyncio.sleep(0.02)

    async def _likes_now(self, stubs: Stubs, metadata: list[tuple[str, str]]) -> int:
        if not self._media_id:
            return 0
        request = media_pb2.GetMediaRequest(media_ids=[self._media_id])
        answer = await stubs.media.GetMedia(request, metadata=metadata, timeout=5)
        return int(answer.items[0].likes_count)

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
