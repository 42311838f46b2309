"""One aiokafka consumer that knows by itself where it is, and tells when it is lost.

aiokafka's consumer waits without a bound while partitions change hands, skips a record that it
finds too large, and is silent when no broker answers. So this keeps the next offset of each
partition, compares it with what it gets, goes back after each error, and looks at the time of
the last answer.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord
from aiokafka.structs import TopicPartition as BrokerPartition

from millrace.errors import Bug, PositionBehind, StoreUnavailable
from millrace.ids import GENERATION_SHIFT, number_of, offset_after
from millrace.log.kafka_errors import membership_failed, unavailable
from millrace.log.port import NO_HEADERS, Record, TopicPartition
from millrace.log.topics import TOPICS
from millrace.settings import Settings

# The generation of every topic. To change a topic's partitions, it is sealed and its next
# generation opened; until then there is one.
GENERATION = 0


def broker_topic(settings: Settings, topic: str) -> str:
    """The broker's name of a topic."""
    return settings.topic_prefix + topic


class Following:
    """`options` are more of aiokafka's, for a member of a group."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._settings = settings
        self._options = options
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[BrokerPartition, int] = {}
        self._fetching: asyncio.Task[dict[BrokerPartition, list[ConsumerRecord]]] | None = None
        self._stale: set[BrokerPartition] = set()
        self._answered_s = 0.0

    async def start(self) -> None:
        """Raises StoreUnavailable; may be called again."""
        if self._consumer is not None:
            return
        settings = self._settings
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka_bootstrap,
            client_id="millrace",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=settings.fetch_bytes_max,
            max_partition_fetch_bytes=settings.fetch_bytes_max,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            request_timeout_ms=settings.log_request_timeout_ms,
            **self._options,
        )
        try:
            await consumer.start()
        except (KafkaError, TimeoutError, OSError) as error:
            await consumer.stop()
            raise unavailable(error) from error
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._answered_s = time.time()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._running().assign([self._broker(*partition) for partition in positions])
        for (topic, partition), position in positions.items():
            self.place(topic, partition, position)

    def subscribe(self, topics: Iterable[str], listener: ConsumerRebalanceListener) -> None:
        names = [broker_topic(self._settings, topic) for topic in topics]
        self._running().subscribe(names, listener=listener)

    def place(self, topic: str, partition: int, position: int) -> None:
        """Go on after a position; raises PositionBehind for one of another generation."""
        if position >> GENERATION_SHIFT not in (0, GENERATION):
            raise PositionBehind(
                f"{topic}/{partition}: position {position} is of another generation"
            )
        self._go_to(self._broker(topic, partition), offset_after(position))

    def forget(self) -> None:
        """No partition is placed any more; what was fetched is dropped."""
        self._next.clear()
        self._stale.clear()
        if self._fetching is not None and self._fetching.done():
            self._fetching = None

    def lag(self) -> dict[TopicPartition, int]:
        lag = {}
        for partition, offset in self._next.items():
            end = self._consumer.highwater(partition) if self._consumer else None
            if end is not None:
                lag[self.named(partition)] = max(end - offset, 0)
        return lag

    @property
    def member_id(self) -> str:
        """Given by the group; a new one when it had forgotten this member."""
        member_id: str = self._running()._coordinator.member_id
        return member_id

    def check(self) -> None:
        """Raises StoreUnavailable, or FailedPrecondition, when the group cannot go on."""
        try:
            self._running()._coordinator.check_errors()
        except KafkaError as error:
            raise membership_failed(error) from error

    async def fetch(self, records_max: int, wait_s: float) -> list[Record]:
        """As `LogReader.batch`."""
        try:
            fetched = await self._fetched(records_max, wait_s)
        except OffsetOutOfRangeError as error:
            await self._out_of_range(error.args[0])
            return []
        except NoOffsetForPartitionError:
            self._go_back()
            return []
        except KafkaError as error:
            self._go_back()
            raise membership_failed(error) from error
        records: list[Record] = []
        for partition, found in fetched.items():
            if partition in self._stale or partition not in self._next:
                continue
            records += self._taken(partition, found)
        self._stale.clear()
        if not records:
            self._check_silence()
        return records

    def named(self, partition: BrokerPartition) -> TopicPartition:
        return partition.topic.removeprefix(self._settings.topic_prefix), partition.partition

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await self._fetching
        if self._consumer is not None:
            # Stopped before its tasks have run once, aiokafka raises their CancelledError at us.
            await asyncio.sleep(0)
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()

    async def _fetched(
        self, records_max: int, wait_s: float
    ) -> dict[BrokerPartition, list[ConsumerRecord]]:
        """A fetch that outlives `wait_s` (partitions change hands) is taken up by the next call.

        It is never cancelled: aiokafka would count it as running for ever.
        """
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(
                self._running().getmany(timeout_ms=int(wait_s * 1000), max_records=records_max)
            )
        done, _ = await asyncio.wait({self._fetching}, timeout=wait_s + 0.05)
        if not done or self._fetching is None:
            return {}
        fetching, self._fetching = self._fetching, None
        return fetching.result()

    def _taken(self, partition: BrokerPartition, found: list[ConsumerRecord]) -> list[Record]:
        topic, number = self.named(partition)
        expected = self._next[partition]
        gapless = found[-1].offset - expected + 1 == len(found)
        if not gapless and not TOPICS[topic].compacted:
            self._go_back()
            raise Bug(f"{topic}/{number}: records are missing after offset {expected}")
        self._next[partition] = found[-1].offset + 1
        return [
            Record(
                topic,
                number,
                number_of(GENERATION, record.offset),
                record.key or b"",
                record.value,
                record.timestamp,
                dict(record.headers) if record.headers else NO_HEADERS,
            )
            for record in found
        ]

    async def _out_of_range(self, offsets: Mapping[BrokerPartition, int]) -> None:
        """Raises PositionBehind; returns where the position was "nothing read yet"."""
        consumer = self._running()
        asked = list(offsets)
        try:
            async with asyncio.timeout(self._settings.append_timeout_s):
                starts = await consumer.beginning_offsets(asked)
                ends = await consumer.end_offsets(asked)
        except (KafkaError, TimeoutError, OSError) as error:
            raise unavailable(error) from error
        for partition in asked:
            offset = self._next.get(partition)
            if offset is None or starts[partition] <= offset <= ends[partition]:
                continue
            topic, number = self.named(partition)
            if offset > ends[partition]:
                raise PositionBehind(
                    f"{topic}/{number}: position {offset} is beyond the log's end {ends[partition]}"
                )
            if offset > 0:
                raise PositionBehind(
                    f"{topic}/{number}: records after position {offset} are no longer kept",
                    reason="POSITION_EXPIRED",
                )
            self._go_to(partition, starts[partition])

    def _go_to(self, partition: BrokerPartition, offset: int) -> None:
        self._next[partition] = offset
        self._running().seek(partition, offset)
        if self._fetching is not None and self._fetching.done():
            # Fetched before it went elsewhere, and not yet taken.
            self._stale.add(partition)

    def _go_back(self) -> None:
        """To where this is, which after an error need not be where aiokafka is."""
        assigned = self._running().assignment()
        for partition, offset in self._next.items():
            if partition in assigned:
                self._running().seek(partition, offset)

    def _check_silence(self) -> None:
        """Raises StoreUnavailable when a partition's leader has not answered for too long."""
        if not self._next:
            return
        times_ms = [self._running().last_poll_timestamp(partition) for partition in self._next]
        answered_s = max(min(time_ms or 0 for time_ms in times_ms) / 1000, self._answered_s)
        if time.time() - answered_s > self._settings.fetch_silence_max_s:
            raise StoreUnavailable("the log has not answered for too long")

    def _broker(self, topic: str, partition: int) -> BrokerPartition:
        return BrokerPartition(broker_topic(self._settings, topic), partition)

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise Bug("the consumer has not started")
        return self._consumer
