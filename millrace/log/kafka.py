"""The log on Kafka: topics by their names here, events by their numbers.

The prefix of `settings.topic_prefix` is put before a topic's name here and in `create`, through
`broker_topic`, and nowhere else. Offsets become numbers here, in `kafka_reading` and `reader`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from millrace.errors import Bug, InvalidRequest
from millrace.ids import number_of
from millrace.log.following import GENERATION, broker_topic
from millrace.log.kafka_reading import KafkaReading
from millrace.log.partitioner import partition_of
from millrace.log.port import (
    NO_HEADERS,
    Appended,
    NewRecord,
    StoredPositions,
)
from millrace.log.producer import Producer
from millrace.log.reader import KafkaGroupReader
from millrace.settings import Settings


class KafkaLog(KafkaReading):
    """One a process. Connects with the first use; belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._producer = Producer(settings)
        self._checked: set[str] = set()

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

    def group_reader(
        self, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> KafkaGroupReader:
        """A member named by `settings.worker`; of two with one name the older must end."""
        return KafkaGroupReader(self._settings, group, topics, stored)

    async def close(self) -> None:
        await self._producer.close()
        await super().close()

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
