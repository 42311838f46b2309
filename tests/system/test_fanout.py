"""The fan-out as a process on real Kafka, PostgreSQL and Cassandra, and what kill -9 does to it."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.status import StackStatus, read, wait_ready
from millrace.auth.keys import ensure_keys
from millrace.errors import StoreUnavailable
from millrace.log.codec import decode
from millrace.log.create import create_log
from millrace.log.kafka import KafkaLog
from millrace.log.port import NewRecord
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.cassandra import CassandraFeedStore, open_feed_store
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.feed_port import FeedRow
from millrace.stores.postgres import PostgresStore
from millrace.views import VIEWS, follows, lag, media
from streams.owed_rows import check_owed_rows
from tests.databases import migrated_template, postgres_settings, stack_settings
from tests.histories import History, write

__all__ = ["migrated_template", "postgres_settings", "stack_settings"]

pytestmark = pytest.mark.timeout(300)

AUTHORS = range(1, 31)
FOLLOWERS = range(1, 121)
POSTS = 200
SOON_S = 120.0
LEFT_BY_ITSELF = 70


class Worker:
    """One fan-out process, started again when it leaves by itself, as the supervisor does."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = {
            **os.environ,
            **{f"MILLRACE_{name.upper()}": str(value) for name, value in settings},
        }
        self.log = folder / "fanout.log"
        self.exits: list[int] = []
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "streams.fanout"],
                env=self._environment,
                stdout=out,
                stderr=out,
            )

    def supervise(self) -> None:
        if (code := self._process.poll()) is not None:
            self.exits.append(code)
            self._process = self._start()

    def kill(self, sent: signal.Signals) -> int:
        self._process.send_signal(sent)
        return self._process.wait(20)

    def send(self, sent: signal.Signals) -> None:
        self._process.send_signal(sent)

    def lines(self) -> list[dict[str, object]]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


@dataclass
class Installation:
    settings: Settings
    log: KafkaLog
    views: PostgresStore
    feeds: CassandraFeedStore
    worker: Worker

    async def append(self, topic: str, ops: list[tuple]) -> None:  # type: ignore[type-arg]
        records = (write(History(), op) for op in ops)
        await self.log.append_many(topic, [NewRecord(one.key, one.value) for one in records])

    async def project(self, view: View) -> None:
        """All that is in the log, as the projector would."""
        for (topic, partition), at in (await self.views.positions(view.name)).items():
            end = (await self.log.ends(topic))[partition]
            position = at.position
            reader = self.log.reader({(topic, partition): position})
            while position < end:
                records = await reader.batch(1_000, 1.0)
                changes: list[Change] = [
                    change for record in records for change in view.project(decode(record))
                ]
                if records:
                    move = Move(topic, partition, position, records[-1].number)
                    await self.views.apply(view.schema, Batch(view.name, (move,), changes))
                    position = records[-1].number
            await reader.close()

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(SOON_S):
            while not await done():
                self.worker.supervise()
                await asyncio.sleep(0.1)

    async def caught_up(self) -> bool:
        measured = await lag.measure(self)
        return measured.planning == measured.delivery == 0

    async def some_rows(self) -> bool:
        async for _ in self.feeds.scan():
            return True
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def settings(postgres_settings: Settings, namespace: str, folder: Path) -> Settings:
    keys = folder / "keys"
    ensure_keys(str(keys))
    return postgres_settings.model_copy(
        update={
            "topic_prefix": f"{namespace}.",
            "cassandra_keyspace": namespace,
            "keys_dir": str(keys),
            "log_partitions": 2,
            "gossip_check_interval_s": 0.3,
        }
    )


@pytest.fixture
async def millrace(settings: Settings, folder: Path) -> AsyncIterator[Installation]:
    identity = await create_log(settings)
    log = KafkaLog(settings)
    views = await PostgresStore.open(settings)
    for view in VIEWS:
        partitions = {topic: log.partitions_of(topic) for topic in view.topics}
        await views.open_view(view.schema, partitions, identity.log_id)
    feeds = await open_feed_store(settings)
    worker = Worker(settings, folder)
    yield Installation(settings, log, views, feeds, worker)
    worker.kill(signal.SIGKILL)
    print(worker.log.read_text()[-20_000:])
    await feeds.close()
    await views.close()
    await log.close()


def graph() -> Iterator[tuple]:  # type: ignore[type-arg]
    chosen = random.Random(11)
    for follower in FOLLOWERS:
        for author in chosen.sample(AUTHORS, 12):
            if author != follower:
                yield "follow", follower, author


def posts(first: int, count: int) -> list[tuple]:  # type: ignore[type-arg]
    chosen = random.Random(first)
    return [
        ("upload", chosen.choice(AUTHORS), 1_000 + number, b"request-%08d" % number)
        for number in range(first, first + count)
    ]


async def test_no_row_is_missing_after_the_worker_was_killed(millrace: Installation) -> None:
    await millrace.append("follows", list(graph()))
    await millrace.project(follows.VIEW)
    await millrace.append("media", posts(0, POSTS // 2))
    await millrace.project(media.VIEW)
    await millrace.until(millrace.some_rows)
    millrace.worker.kill(signal.SIGKILL)
    await millrace.append("media", posts(POSTS // 2, POSTS // 2))
    await millrace.project(media.VIEW)
    await millrace.until(millrace.caught_up)
    owed = await check_owed_rows(millrace.log, millrace.views, millrace.feeds)
    assert owed.missing == []
    followers = [author for _, _, author in graph()]
    assert owed.checked == sum(followers.count(op[1]) for op in posts(0, POSTS // 2)) + sum(
        followers.count(op[1]) for op in posts(POSTS // 2, POSTS // 2)
    )


async def test_it_ends_in_order_and_goes_on_where_it_was(millrace: Installation) -> None:
    await millrace.append("follows", [("follow", 2, 1)])
    await millrace.project(follows.VIEW)
    await millrace.append("media", [("upload", 1, 76, b"first")])
    await millrace.project(media.VIEW)
    await millrace.until(millrace.caught_up)
    started = asyncio.get_running_loop().time()
    assert millrace.worker.kill(signal.SIGTERM) == 0
    assert asyncio.get_running_loop().time() - started < millrace.settings.stop_grace_s
    trace = "0123456789abcdef" * 2
    record = write(History(), ("upload", 1, 77, b"second"))
    await millrace.log.append("media", record.key, record.value, headers={"trace": trace.encode()})
    await millrace.project(media.VIEW)
    await millrace.until(millrace.caught_up)
    assert await millrace.feeds.page(2, limit=5) == [(77, 1), (76, 1)]
    told = [line["event"] for line in millrace.worker.lines() if line.get("trace") == trace]
    assert told == ["planned", "delivering"]


@pytest.mark.timeout(420)
async def test_rows_that_cassandra_forgets_are_delivered_again(
    millrace: Installation, stack: StackStatus
) -> None:
    """SIGKILL right after an acknowledgement: the commit log is synced every 10 s.

    How much is forgotten is chance; so here everything is, while the worker looks away.
    """
    await millrace.append("follows", list(graph()))
    await millrace.project(follows.VIEW)
    await millrace.append("media", posts(0, POSTS // 2))
    await millrace.project(media.VIEW)
    await millrace.until(millrace.caught_up)
    millrace.worker.send(signal.SIGSTOP)
    probe = [FeedRow(1_000_000, media_id, 1) for media_id in range(1, 500)]
    await millrace.feeds.write(probe)
    pid = current(stack).pid("cassandra")
    os.kill(pid, signal.SIGKILL)
    await wait_ready(Path(stack.data_dir), "cassandra", not_pid=pid, timeout_s=200)
    there = await _until_it_answers(
        lambda: millrace.feeds.has_many([(row.user_id, row.media_id) for row in probe])
    )
    print(f"forgotten: {len(probe) - len(there)} of the last {len(probe)} rows")
    keyspace = millrace.settings.cassandra_keyspace
    await millrace.feeds._session.execute(f"TRUNCATE {keyspace}.feed_by_user")
    millrace.worker.send(signal.SIGCONT)
    await millrace.until(lambda: _left(millrace))
    await millrace.until(millrace.caught_up)
    await millrace.until(lambda: _all_there(millrace))
    assert (await check_owed_rows(millrace.log, millrace.views, millrace.feeds)).checked > POSTS
    assert "stepping back" in {line["event"] for line in millrace.worker.lines()}
    # Once: the new generation was recorded when the position to start from was.
    assert millrace.worker.exits == [LEFT_BY_ITSELF]


def current(stack: StackStatus) -> StackStatus:
    """As it is now: another test may have killed a server since the session began."""
    status = read(Path(stack.data_dir))
    assert status is not None
    return status


async def _until_it_answers(
    ask: Callable[[], Awaitable[set[tuple[int, int]]]],
) -> set[tuple[int, int]]:
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(0.2)


async def _all_there(millrace: Installation) -> bool:
    """The lag was 0 before the step back as well, so the rows have to be looked for."""
    owed = await check_owed_rows(millrace.log, millrace.views, millrace.feeds)
    return owed.missing_count == 0


async def _left(millrace: Installation) -> bool:
    return LEFT_BY_ITSELF in millrace.worker.exits
