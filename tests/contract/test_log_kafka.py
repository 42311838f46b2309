"""Kafka alone: how topics are made, and what happens when the broker stops, dies or refuses."""

import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition as BrokerPartition

from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import StackStatus
from millrace.errors import (
    FailedPrecondition,
    MillraceError,
    OutcomeUnknown,
    PositionBehind,
    StoreUnavailable,
)
from millrace.log.create import create_log, describe_topic
from millrace.log.kafka import KafkaLog
from millrace.log.port import LogReader, Record
from millrace.log.topics import TOPICS, WEEK_MS
from millrace.settings import Settings

SOON_S = 20.0
# What a caller waits for a silent log at most, with room for a busy machine.
SILENCE_MAX_S = 60.0
# A broker needs 3 s to come back, on a busy machine 40.
RECOVERY_MAX_S = 120.0


class Unforeseen(Exception):
    """None of Kafka's client's own."""


def settings_of(bootstrap: object, **values: object) -> Settings:
    return Settings.model_validate(
        {
            "kafka_bootstrap": bootstrap,
            "topic_prefix": f"t{secrets.token_hex(5)}.",
            "log_partitions": 2,
            **values,
        }
    )


@pytest.fixture
def settings(stack: StackStatus) -> Settings:
    return settings_of(stack.settings["kafka_bootstrap"])


@asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def log_of(settings: Settings) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(settings)
    try:
        yield log
    finally:
        await log.close()


async def eventually(act: Callable[[], Awaitable[object]]) -> None:
    """Until it raises nothing any more."""
    deadline = time.monotonic() + RECOVERY_MAX_S
    while True:
        try:
            await act()
        except MillraceError:
            assert time.monotonic() < deadline, "it did not recover in time"
        else:
            return


async def read_all(reader: LogReader, count: int) -> list[Record]:
    """All records until `count` are there and no more come."""
    records: list[Record] = []
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        batch = await reader.batch(100, 0.5)
        records += batch
        if len(records) >= count and not batch:
            break
    return records


class TestCreation:
    async def test_topics_have_their_settings(self, settings: Settings) -> None:
        first, second = await asyncio.gather(create_log(settings), create_log(settings))
        assert first == second == await create_log(settings)
        async with admin_of(settings) as admin:
            found = {
                name: await describe_topic(admin, settings.topic_prefix + name) for name in TOPICS
            }
            there = {topic["topic"]: topic for topic in await admin.describe_topics()}
        compacted = {n for n, config in found.items() if config["cleanup.policy"] == "compact"}
        assert compacted == {"vault", "progress", "feed_marks"}
        weekly = {"plans", "chunks.small", "chunks.large"}
        for name, config in found.items():
            kept_ms = WEEK_MS if name in weekly else -1
            assert int(config["retention.ms"]) == kept_ms, name
            assert config["message.timestamp.type"] == "LogAppendTime"
            assert config["min.insync.replicas"] == "1"
            partitions = there[settings.topic_prefix + name]["partitions"]
            single = name in {"control", "progress", "feed_marks"}
            assert len(partitions) == (1 if single else 2), name

    async def test_another_number_of_partitions_stops_it(self, settings: Settings) -> None:
        await create_log(settings)
        other = settings.model_copy(update={"log_partitions": 3})
        with pytest.raises(FailedPrecondition) as refused:
            await create_log(other)
        assert refused.value.reason == "PARTITIONS_DIFFER"
        assert "2 partitions, the settings say 3" in refused.value.message
        async with log_of(other) as log:
            for _ in range(2):
                with pytest.raises(FailedPrecondition):
                    await log.append("likes", b"k", b"x")

    async def test_a_topic_that_would_forget_stops_it(self, settings: Settings) -> None:
        async with admin_of(settings) as admin:
            await admin.create_topics([NewTopic(settings.topic_prefix + "likes", 2, 1)])
        with pytest.raises(FailedPrecondition) as refused:
            await create_log(settings)
        assert refused.value.reason == "TOPIC_CONFIG_DIFFERS"

    async def test_no_topics_no_append(self, settings: Settings) -> None:
        async with log_of(settings.model_copy(update={"append_timeout_s": 0.5})) as log:
            with pytest.raises(StoreUnavailable) as refused:
                await log.append("likes", b"k", b"x")
            assert not isinstance(refused.value, OutcomeUnknown)
            with pytest.raises(StoreUnavailable):
                await log.ends("likes")


async def test_what_is_no_longer_kept_is_missed(settings: Settings) -> None:
    await create_log(settings)
    async with log_of(settings) as log, admin_of(settings) as admin:
        for _ in range(5):
            await log.append("plans", b"k", b"x", partition=0)
        place = BrokerPartition(settings.topic_prefix + "plans", 0)
        await admin.delete_records({place: RecordsToDelete(3)})
        fresh = log.reader({("plans", 0): 0})
        assert [r.number for r in await read_all(fresh, 2)] == [4, 5]
        await fresh.close()
        behind = log.reader({("plans", 0): 2})
        with pytest.raises(PositionBehind) as missed:
            await read_all(behind, 1)
        assert missed.value.reason == "POSITION_EXPIRED"
        await behind.close()


async def test_after_a_refused_batch_the_log_takes_events_again(settings: Settings) -> None:
    """aiokafka's producer would be refused in that partition for ever."""
    await create_log(settings)
    topic = ConfigResource(
        ConfigResourceType.TOPIC,
        settings.topic_prefix + "likes",
        {"max.message.bytes": "1000", "retention.ms": "-1"},
    )
    async with log_of(settings) as log, admin_of(settings) as admin:
        await admin.alter_configs([topic])
        taken = 0

        async def append_until_refused() -> None:
            nonlocal taken
            # The broker takes up its new settings a little later than it acknowledges them.
            async with asyncio.timeout(30):
                while True:
                    await log.append("likes", b"k", secrets.token_bytes(5_000))
                    taken += 1

        with pytest.raises(OutcomeUnknown):
            await append_until_refused()
        for step in (1, 2):
            appended = await log.append("likes", b"k", b"y")
            assert appended.number == taken + step


@pytest.mark.parametrize(
    ("method", "told"), [("send_batch", OutcomeUnknown), ("create_batch", Unforeseen)]
)
async def test_after_a_failure_that_nobody_foresaw_the_log_takes_events_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, method: str, told: type[Exception]
) -> None:
    """What Kafka's client may have had is unknown; its connection is closed."""
    await create_log(settings)
    async with log_of(settings.model_copy(update={"append_timeout_s": 60})) as log:
        await log.append("likes", b"k", b"x")
        first = log._producer._live
        assert first is not None
        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaProducer, method, _stumble)
            with pytest.raises(told):
                await log.append("likes", b"k", b"y")
        assert (await log.append("likes", b"k", b"z")).number == 2
        assert log._producer._live not in (first, None)
    assert not any(one.connected() for one in first.client._conns.values())


def _stumble(*_: object, **__: object) -> None:
    raise Unforeseen


@pytest.fixture(scope="module")
async def broker() -> AsyncIterator[LocalStack]:
    """One of its own: nobody else may notice that it stops."""
    with tempfile.TemporaryDirectory(prefix="millrace-broker-") as folder:
        stack = LocalStack(
            StackSettings(Path(folder) / "data", servers=("kafka",), usual_ports=False)
        )
        async with stack:
            yield stack


class TestBroker:
    @pytest.fixture
    async def settings(self, broker: LocalStack) -> Settings:
        settings = settings_of(broker.addresses["kafka_bootstrap"])
        await create_log(settings)
        return settings.model_copy(
            update={
                "append_timeout_s": 3.0,
                "fetch_silence_max_s": 1.0,
                "log_request_timeout_ms": 2_000,
            }
        )

    async def test_a_silent_broker_leaves_the_outcome_unknown(
        self, broker: LocalStack, settings: Settings
    ) -> None:
        """What was on its way to it may be taken yet; what was not is never sent later."""
        async with log_of(settings) as log:
            first = await log.append("likes", b"k", b"before")
            await log.ends("likes")
            reader = log.reader({("likes", first.partition): 0})
            assert len(await reader.batch(10, SOON_S)) == 1
            broker.kill("kafka", signal.SIGSTOP)
            try:
                async with asyncio.timeout(SILENCE_MAX_S):
                    with pytest.raises(OutcomeUnknown):
                        await log.append("likes", b"k", b"on its way", timeout_s=0.2)
                    with pytest.raises(StoreUnavailable):
                        await log.append("likes", b"k", b"not sent")
                with pytest.raises(StoreUnavailable):
                    await log.ends("likes")
                with pytest.raises(StoreUnavailable):
                    await read_all(reader, 1)
                async with log_of(settings) as other:
                    with pytest.raises(StoreUnavailable) as refused:
                        await other.append("likes", b"k", b"never taken")
                    assert not isinstance(refused.value, OutcomeUnknown)
            finally:
                broker.kill("kafka", signal.SIGCONT)
            await eventually(lambda: log.append("likes", b"k", b"after"))
            await reader.close()
            again = log.reader({("likes", first.partition): 0})
            values = [r.value for r in await read_all(again, 3)]
            # "after" itself may have been tried again by this test.
            assert values[:3] == [b"before", b"on its way", b"after"]
            assert set(values[2:]) == {b"after"}
            await again.close()

    async def test_a_killed_broker_that_comes_back_has_all(
        self, broker: LocalStack, settings: Settings
    ) -> None:
        async with log_of(settings) as log:
            done = [await log.append("likes", b"k", b"%d" % n) for n in range(20)]
            reader = log.reader({("likes", done[0].partition): 0})
            assert len(await read_all(reader, 20)) == 20
            broker.kill("kafka", signal.SIGKILL)
            with pytest.raises(StoreUnavailable):
                await log.append("likes", b"k", b"unknown")
            await eventually(lambda: log.append("likes", b"k", b"known"))
            values: list[bytes | None] = []

            async def known() -> None:
                values.extend(r.value for r in await reader.batch(100, 0.5))
                if b"known" not in values:
                    raise StoreUnavailable("not yet")

            await eventually(known)
            assert values[0] in (b"unknown", b"known")
            assert values.count(b"unknown") <= 1
            await reader.close()
