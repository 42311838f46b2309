"""Delivery as a Faust app: agents over both lanes, started at the positions that we store.

What Faust does by itself loses or skips events in several ways, so nothing here relies on it:
values are raw and parsed by `Delivery`, which notices a record that was skipped; no exception
leaves an agent's body, because the generator's end would acknowledge the batch; what cannot be
mended ends the process within the `except` block, and the supervisor starts it again at the
stored positions. Offsets that Faust commits to the group decide nothing.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import faust
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

from millrace.errors import PositionBehind, StoreUnavailable
from millrace.ids import number_of, offset_after
from millrace.log.following import GENERATION, broker_topic
from millrace.log.port import Record, TopicPartition
from millrace.observe import logs, metrics
from millrace.settings import Settings
from millrace.startup import CANNOT_GO_ON
from streams.delivery import Delivery
from streams.planner import LARGE, SMALL

logger = logs.logger("streams.delivery_app")

LANES = (SMALL, LARGE)
RETRY_S = 0.5
# Chunks have up to 26 kB: what lies between Kafka and the store must not grow to a gigabyte. Where
# all buffers are full Faust sleeps for a second, so this should be a second's work or more.
BUFFERED_RECORDS_MAX = 2_000


class DeliveryApp:
    """The app and what it knows of its partitions. `app.start()` and `app.stop()` are Faust's."""

    def __init__(self, delivery: Delivery, settings: Settings) -> None:
        self.delivery = delivery
        self.settings = settings
        self._names = {broker_topic(settings, lane): lane for lane in LANES}
        self._stalled_s: dict[TopicPartition, tuple[int, float]] = {}
        self._delivering = 0
        self._stopping = False
        self.placed = False
        self.app = _app(settings)
        self.app.transport = _transport(self)
        for name, lane in self._names.items():
            self._add_agent(name, lane)

    def _add_agent(self, name: str, lane: str) -> None:
        topic = self.app.topic(
            name, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes
        )

        async def deliver(stream: Any) -> None:
            await self._deliver(lane, stream)

        self.app.agent(topic, name=f"deliver.{lane}", concurrency=1)(deliver)

    async def _deliver(self, lane: str, stream: Any) -> None:
        settings = self.settings
        batches: AsyncIterator[Sequence[Any]] = stream.take_events(
            settings.delivery_records_max, within=settings.delivery_wait_s
        )
        async for events in batches:
            self._delivering += 1
            try:
                await self.delivery.deliver([_record(lane, event.message) for event in events])
            except Exception as error:  # noqa: BLE001 - Faust would take it for done and commit
                leave("delivery cannot go on", error)
            finally:
                self._delivering -= 1
        if not self._stopping:
            leave("the stream ended")

    async def stop(self) -> None:
        self._stopping = True
        await self.app.stop()

    async def place(self, consumer: Any) -> Mapping[TP, int]:
        """Seek every partition of a new assignment to its stored position."""
        try:
            return await self._place(consumer)
        except Exception as error:  # noqa: BLE001 - Faust would go on from elsewhere
            leave("cannot start at the stored positions", error)

    async def _place(self, consumer: Any) -> Mapping[TP, int]:
        assigned = sorted(consumer.assignment())
        ours = {(self._names[tp.topic], tp.partition): tp for tp in assigned}
        positions = await self._stored(list(ours))
        if not assigned:
            return {}
        first = await consumer.earliest_offsets(*assigned)
        end = await consumer.highwaters(*assigned)
        offsets: dict[TP, int] = {}
        for (lane, partition), tp in ours.items():
            offset = offset_after(positions[lane, partition])
            if offset > end[tp]:
                raise PositionBehind(f"{lane}/{partition}: {offset} is beyond the log's {end[tp]}")
            if offset < first[tp]:
                if offset:
                    logger.error("chunks lost by age", topic=lane, partition=partition, of=offset)
                offset = first[tp]
                self.delivery.begin(lane, partition, number_of(GENERATION, offset - 1))
            await consumer._seek(tp, offset)
            offsets[tp] = offset
        self.placed = True
        logger.info("placed", partitions=len(offsets))
        return offsets

    async def _stored(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        while True:
            try:
                return await self.delivery.start_positions(partitions)
            except StoreUnavailable as error:
                logger.warning("waiting", why=error.message)
                await self.delivery.clock.sleep(RETRY_S)

    def look_after(self) -> None:
        """Lag into the metrics; leaves when Faust has died or stands still. Once a second."""
        if self.app.crashed or self.app.should_stop:
            leave("Faust has stopped", self.app.crash_reason)
        if not self.placed or self.app.rebalancing:
            return
        lags = dict.fromkeys(LANES, 0)
        now_s = self.delivery.clock.monotonic_s()
        consumer = self.app.consumer
        for tp in consumer.assignment():
            lane = self._names[tp.topic]
            position = self.delivery.position(lane, tp.partition)
            lag = (consumer.highwater(tp) or 0) - offset_after(position)
            lags[lane] += max(lag, 0)
            self._watch(lane, tp.partition, position, lag, now_s)
        for lane, lag in lags.items():
            metrics.FEED_CHUNK_LAG.labels(lane).set(lag)

    def _watch(self, lane: str, partition: int, position: int, lag: int, now_s: float) -> None:
        """Streams that silently stop reading are an old fault of Faust's."""
        at, since_s = self._stalled_s.get((lane, partition), (-1, now_s))
        if lag <= 0 or position != at or self._delivering:
            self._stalled_s[lane, partition] = (position, now_s)
        elif now_s - since_s > self.settings.delivery_stall_s:
            leave(f"{lane}/{partition} stands still at {position}")


def leave(why: str, error: BaseException | None = None) -> NoReturn:
    """At once: an orderly end would acknowledge what was not delivered."""
    logger.error("leaving", why=why, exc_info=error)
    os._exit(CANNOT_GO_ON)


def _app(settings: Settings) -> Any:
    return faust.App(
        f"{settings.topic_prefix}fanout",
        broker=[f"kafka://{address}" for address in settings.kafka_bootstrap.split(",")],
        # Tables would be kept there; we have none, but Faust makes the folder.
        datadir=str(Path(tempfile.gettempdir()) / "millrace-faust"),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        stream_buffer_maxsize=BUFFERED_RECORDS_MAX,
        stream_wait_empty=False,
        broker_commit_interval=1.0,
        broker_session_timeout=settings.group_session_ms / 1000,
        broker_heartbeat_interval=settings.group_session_ms / 4000,
        broker_rebalance_timeout=30.0,
        consumer_max_fetch_size=settings.fetch_bytes_max,
        consumer_auto_offset_reset="none",
        consumer_group_instance_id=f"fanout-{settings.worker}",
        worker_redirect_stdouts=False,
    )


def _transport(delivery: DeliveryApp) -> Any:
    class StoredPositionsConsumer(Consumer):
        """Faust calls this at the end of every rebalance; a seek anywhere else it undoes."""

        async def seek_to_committed(self) -> Mapping[TP, int]:
            return await delivery.place(self)

    class StoredPositionsTransport(Transport):
        Consumer = StoredPositionsConsumer

    app = delivery.app
    return StoredPositionsTransport(app.conf.broker_consumer, app, loop=None)


def _record(lane: str, message: Any) -> Record:
    return Record(
        topic=lane,
        partition=message.partition,
        number=number_of(GENERATION, message.offset),
        key=message.key or b"",
        value=message.value,
        appended_ms=round(message.timestamp * 1000),
        headers=dict(message.headers or {}),
    )
