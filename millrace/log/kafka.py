"""The log on Kafka: topics by their names here, events by their numbers.

The prefix of `settings.topic_prefix` is put before a topic's name here and in `create`, through
`broker_topic`, and nowhere else. Offsets become numbers here and in `reader`.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as BrokerPartition

from millrace.errors import Bug, InvalidRequest
from millrace.ids import number_of
from millrace.log.following import GENERATION, broker_topic
from millrace.log.kafka_errors import unavailable
from millrace.log.partitioner import partition_of
from millrace.log.port import (
    NO_HEADERS,
    Appended,
    NewRecord,
    StoredPositions,
    TopicPartition,
)
from millrace.log.producer import Producer
from millrace.log.reader import KafkaGroupReader, KafkaReader
from millrace.log.topics import TOPICS
from millrace.settings import Settings


class KafkaLog:
    """One a process. Connects with the first use; belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(settings)
        self._checked: set[str] = set()
        self._asking: AIOKafkaConsumer | None = None
        self._ask_lock = asyncio.Lock()

    @property
    def partitions(self) -> int:
        return self._settings.log_partitions

    def partitions_of(self, topic: str) -> int:
        return TOPICS[topic].partitions(self._settings.log_partitions)

    async def append(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Appended:
        if timeout_s is None:
            timeout_s = self._settings.append_timeout_s
        if topic not in self._checked:
            await self._check(topic, timeout_s)
        partition = self._place(topic, key, value, partition)
        offset = await self._producer.append(
            broker_topic(self._settings, topic),
            partition,
            key,
            value,
            headers or NO_HEADERS,
            timeout_s,
        )
        return Appended(topic, partition, number_of(GENERATION, offset))

    async def append_many(self, topic: str, records: Iterable[NewRecord]) -> dict[int, int]:
        await self._check(topic, self._settings.append_timeout_s)

        def placed() -> Iterator[tuple[int, bytes, bytes | None]]:
            for key, value, partition in records:
                yield self._place(topic, key, value, partition), key, value

        last = await self._producer.append_many(broker_topic(self._settings, topic), placed())
        return {partition: number_of(GENERATION, offset) for partition, offset in last.items()}

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

    def group_reader(
        self, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> KafkaGroupReader:
        """A member named by `settings.worker`; of two with one name the older must end."""
        return KafkaGroupReader(self._settings, group, topics, stored)

    async def close(self) -> None:
        await self._producer.close()
        if self._asking is not None:
            with contextlib.suppress(KafkaError, OSError):
                await self._asking.stop()

    async def _check(self, topic: str, timeout_s: float) -> None:
        if topic not in self._checked:
            await self._producer.check_partitions(
                broker_topic(self._settings, topic), self.partitions_of(topic), timeout_s
            )
            self._checked.add(topic)

    def _place(self, topic: str, key: bytes, value: bytes | None, partition: int | None) -> int:
        """The record's partition; raises InvalidRequest for one that is too large."""
        if value is not None and len(value) > self._settings.append_batch_bytes_max:
            raise InvalidRequest("the event is too large", reason="EVENT_TOO_LARGE")
        partitions = self.partitions_of(topic)
        if partition is None:
            return partition_of(key, partitions)
        if not 0 <= partition < partitions:
            raise Bug(f"{topic} has no partition {partition}")
        return partition

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
