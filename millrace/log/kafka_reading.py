"""Kafka's log as those see it who only read: ends and readers. Sends nothing and cannot.

Not: appending (`kafka`), shares in a group.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as BrokerPartition

from millrace.ids import number_of
from millrace.log.following import GENERATION, broker_topic
from millrace.log.kafka_errors import unavailable
from millrace.log.port import TopicPartition
from millrace.log.reader import KafkaReader
from millrace.log.topics import TOPICS
from millrace.settings import Settings


class KafkaReading:
    """Implements `ReadingLog`. Connects with the first use; belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asking: AIOKafkaConsumer | None = None
        self._ask_lock = asyncio.Lock()

    @property
    def partitions(self) -> int:
        return self._settings.log_partitions

    def partitions_of(self, topic: str) -> int:
        return TOPICS[topic].partitions(self._settings.log_partitions)

    async def ends(self, topic: str) -> list[int]:
        name = broker_topic(self._settings, topic)
        asked = [BrokerPartition(name, number) for number in range(self.partitions_of(topic))]
        try:
            async with asyncio.timeout(self._settings.append_timeout_s):
                consumer = await self._consumer()
                found = await consumer.end_offsets(asked)
        except (KafkaError, TimeoutError, OSError) as error:
            raise unavailable(error) from error
        # The end is the offset after the last record; an empty partition has number 0.
        return [
            number_of(GENERATION, end - 1) if (end := found[partition]) else 0
            for partition in asked
        ]

    def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        return KafkaReader(self._settings, positions)

    async def close(self) -> None:
        if self._asking is not None:
            with contextlib.suppress(KafkaError, OSError):
                await self._asking.stop()

    async def _consumer(self) -> AIOKafkaConsumer:
        """Of no partition and no group: asks for ends, reads nothing."""
        async with self._ask_lock:
            if self._asking is None:
                consumer = AIOKafkaConsumer(
                    bootstrap_servers=self._settings.kafka_bootstrap,
                    client_id="millrace",
                    enable_auto_commit=False,
                    request_timeout_ms=self._settings.log_request_timeout_ms,
                )
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                self._asking = consumer
            return self._asking
