"""Groups on Kafka: who has which partitions when members come, die and come back."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from deploy.local.status import StackStatus
from millrace.errors import FailedPrecondition
from millrace.log.create import create_log
from millrace.log.kafka import KafkaLog
from millrace.log.port import GroupReader, TopicPartition
from millrace.settings import Settings
from tests.contract import group_member
from tests.contract.group_member import TOPIC, applied, shares

PARTITIONS = 4
ALL = list(range(PARTITIONS))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def settings(stack: StackStatus, namespace: str) -> Settings:
    settings = Settings(
        **{**stack.settings, "topic_prefix": f"{namespace}.", "log_partitions": PARTITIONS}
    )
    await create_log(settings)
    return settings


@pytest.fixture
async def log(settings: Settings) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(settings)
    yield log
    await log.close()


class Members:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, worker: int) -> None:
        process = subprocess.Popen(
            [sys.executable, group_member.__file__, str(self.folder), "projector", str(worker)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
        )
        assert process.stdin
        given = self.settings.model_copy(update={"worker": worker})
        process.stdin.write(given.model_dump_json().encode())
        process.stdin.close()
        self.running[worker] = process

    def kill(self, worker: int) -> None:
        process = self.running.pop(worker)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def share(self, worker: int) -> list[int]:
        """What it has now."""
        return next(iter(reversed(shares(self.folder, worker))), [])


@pytest.fixture
def members(tmp_path: Path, settings: Settings) -> Iterator[Members]:
    members = Members(tmp_path, settings)
    yield members
    for worker in list(members.running):
        members.kill(worker)


async def until(said: Callable[[], bool], timeout_s: float = 40.0) -> float:
    """Seconds until a predicate holds."""
    began = time.monotonic()
    while not said():
        assert time.monotonic() - began < timeout_s, "it did not come true in time"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def publish(log: KafkaLog, each: int) -> list[int]:
    for partition in ALL:
        for _ in range(each):
            await log.append(TOPIC, b"k", b"x", partition=partition)
    return await log.ends(TOPIC)


def covered(folder: Path, ends: list[int]) -> bool:
    """Every event applied, in order, once."""
    return [applied(folder, n) for n in ALL] == [list(range(1, end + 1)) for end in ends]


async def test_the_other_takes_over_from_a_killed_member(log: KafkaLog, members: Members) -> None:
    members.start(0)
    await until(lambda: members.share(0) == ALL)
    members.start(1)
    await until(lambda: (members.share(0), members.share(1)) == ([0, 1], [2, 3]))
    ends = await publish(log, 5)
    await until(lambda: covered(members.folder, ends))

    members.kill(1)
    ends = await publish(log, 5)
    taken_s = await until(lambda: members.share(0) == ALL)
    await until(lambda: covered(members.folder, ends))
    assert taken_s < 5 * log._settings.group_session_ms / 1000


async def test_of_two_members_with_one_name_one_must_end(log: KafkaLog) -> None:
    async def stored(of: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(of, 0)

    async def forever(reader: GroupReader) -> None:
        while True:
            await reader.batch(10, 0.1)

    async def has_all(reader: GroupReader) -> None:
        await until(lambda: len(reader.assigned) == PARTITIONS)

    running: dict[asyncio.Task[None], GroupReader] = {}
    for _ in range(2):
        reader = log.group_reader("projector", [TOPIC], stored)
        running[asyncio.create_task(forever(reader))] = reader
        await has_all(reader)
    ended, left = await asyncio.wait(running, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(FailedPrecondition) as taken:
        ended.pop().result()
    assert taken.value.reason == "WORKER_NAME_TAKEN"
    winner = left.pop()
    await has_all(running[winner])
    winner.cancel()
    for member in running.values():
        await member.close()


async def test_a_killed_member_that_comes_back_has_its_partitions_at_once(
    log: KafkaLog, members: Members
) -> None:
    # So long a session that nothing here can be the end of it.
    members.settings = members.settings.model_copy(update={"group_session_ms": 60_000})
    members.start(0)
    await until(lambda: members.share(0) == ALL)
    members.start(1)
    await until(lambda: (members.share(0), members.share(1)) == ([0, 1], [2, 3]))
    changes = len(shares(members.folder, 0))

    members.kill(1)
    ends = await publish(log, 5)
    members.start(1)
    await until(lambda: covered(members.folder, ends), timeout_s=15)
    assert members.share(1) == [2, 3]
    assert len(shares(members.folder, 0)) == changes, "the other one was disturbed"
