"""Makes the log: all topics with their settings, and the first record of `control`.

Safe to repeat, and for two processes at once. What is there already is checked, not changed:
a topic with another number of partitions, or one that would delete what must be kept, stops it.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from millrace.clock import Clock, SystemClock
from millrace.errors import FailedPrecondition
from millrace.log.control import LogIdentity, read_identity
from millrace.log.following import broker_topic
from millrace.log.kafka import KafkaLog
from millrace.log.kafka_errors import unavailable
from millrace.log.port import Log
from millrace.log.topics import TOPICS, WEEK_MS, Topic
from millrace.settings import Settings
from social.log.v1.control_pb2 import ControlEvent, LogStarted

# What would lose or reorder events if it differed; the rest an operator may tune.
_MUST_MATCH = ("cleanup.policy", "retention.ms", "message.timestamp.type")
_POLL_S = 0.1


async def create_log(settings: Settings, clock: Clock | None = None) -> LogIdentity:
    """The log's identity, its topics made and checked.

    Raises FailedPrecondition when a topic is there with other settings, StoreUnavailable when
    the brokers do not answer within `settings.log_create_timeout_s`.
    """
    try:
        async with asyncio.timeout(settings.log_create_timeout_s):
            await _create_topics(settings)
    except (KafkaError, TimeoutError, OSError) as error:
        raise unavailable(error) from error
    log = KafkaLog(settings)
    try:
        return await start_log(log, clock or SystemClock(), settings.user_id_block)
    finally:
        await log.close()


async def start_log(log: Log, clock: Clock, user_id_block: int) -> LogIdentity:
    """Write the first record of `control` if there is none; whatever is first counts."""
    if await log.ends("control") == [0]:
        started = LogStarted(
            seed=secrets.token_bytes(32), at_ms=clock.now_ms(), user_id_block=user_id_block
        )
        event = ControlEvent(log_started=started)
        await log.append("control", b"log", event.SerializeToString())
    return await read_identity(log)


def topic_config(settings: Settings, topic: Topic) -> dict[str, str]:
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(max(settings.log_replication - 1, 1)),
        # Room for the largest event in a batch of its own, and for a dead letter around it.
        "max.message.bytes": str(2 * settings.append_batch_bytes_max + 64 * 1024),
    }
    if topic.compacted:
        # A reader that was away for days still learns that a key has ended.
        config["delete.retention.ms"] = str(WEEK_MS)
    return config


async def _create_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap,
        request_timeout_ms=settings.log_request_timeout_ms,
    )
    try:
        await admin.start()
        there = set(await admin.list_topics())
        missing = [
            topic for topic in TOPICS.values() if broker_topic(settings, topic.name) not in there
        ]
        if missing:
            await _create(admin, settings, missing)
        await _check_partitions(admin, settings)
        await _check_configs(admin, settings)
    finally:
        await admin.close()


async def _create(admin: Any, settings: Settings, missing: list[Topic]) -> None:
    answer = await admin.create_topics(
        [
            NewTopic(
                broker_topic(settings, topic.name),
                topic.partitions(settings.log_partitions),
                settings.log_replication,
                topic_configs=topic_config(settings, topic),
            )
            for topic in missing
        ]
    )
    for name, code, message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise FailedPrecondition(
                f"cannot create topic {name}: {message or error.__name__}",
                reason="TOPIC_NOT_CREATED",
            )


async def _check_partitions(admin: Any, settings: Settings) -> None:
    """Waits until every partition has a leader; raises FailedPrecondition for a wrong number."""
    expected = {
        broker_topic(settings, topic.name): topic.partitions(settings.log_partitions)
        for topic in TOPICS.values()
    }
    while True:
        found = {
            topic["topic"]: topic["partitions"]
            for topic in await admin.describe_topics(list(expected))
            if not topic["error_code"]
        }
        for name, partitions in found.items():
            if len(partitions) != expected[name]:
                raise FailedPrecondition(
                    f"topic {name} has {len(partitions)} partitions, the settings say "
                    f"{expected[name]}",
                    reason="PARTITIONS_DIFFER",
                )
        leaderless = any(
            partition["leader"] < 0 for partitions in found.values() for partition in partitions
        )
        if len(found) == len(expected) and not leaderless:
            return
        await asyncio.sleep(_POLL_S)


async def _check_configs(admin: Any, settings: Settings) -> None:
    for topic in TOPICS.values():
        name = broker_topic(settings, topic.name)
        expected = topic_config(settings, topic)
        found = await describe_topic(admin, name)
        for key in _MUST_MATCH:
            if found.get(key) != expected[key]:
                raise FailedPrecondition(
                    f"topic {name} has {key}={found.get(key)}, it must be {expected[key]}",
                    reason="TOPIC_CONFIG_DIFFERS",
                )


async def describe_topic(admin: Any, name: str) -> Mapping[str, str]:
    """The settings of a topic as the broker has them."""
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    code, message, _, _, entries = answers[0].resources[0]
    if code:
        raise FailedPrecondition(f"cannot read the settings of {name}: {message}")
    return {entry[0]: entry[1] for entry in entries}
