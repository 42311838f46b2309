"""The process's one idempotent producer, guarded.

aiokafka with idempotence retries a batch for ever, and when the broker refuses one for good it
has used up sequence numbers that the broker never saw: each later batch of that partition is
then refused as well. So every append has a deadline of its own, and after a refusal the
producer is replaced by a new one. It is given up, too, with all that it still holds, when the
broker has not taken an event within `append_timeout_s`: sent later, the event could undo what its
writer has written meanwhile through another process.

Its linger holds each partition's batch by itself, so that each goes in a request of its own, and
holds one who writes alone as well. So appends take turns here instead: what comes while others
are under way and within `append_pause_ms` of the last turn (longer after a turn of many:
millrace/pause.py) goes together, in one request.

Not: which partition a key belongs to, or numbers.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)

from millrace.deadlines import Deadlines
from millrace.errors import FailedPrecondition, InvalidRequest, OutcomeUnknown, StoreUnavailable
from millrace.log.kafka_errors import unavailable
from millrace.pause import pause_after
from millrace.settings import Settings


class Producer:
    """Started by the first append. `topic` is the broker's name of it throughout."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._live: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._turns = Turns(settings.append_pause_ms / 1000)
        self._deadlines = Deadlines()

    async def append(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        headers: Mapping[str, bytes],
        timeout_s: float,
    ) -> int:
        """The offset of the acknowledged record. Errors as `Log.append`."""
        producer = None
        delivery: asyncio.Future[Any] | None = None
        until_s = 0.0
        try:
            with self._deadlines.within(timeout_s):
                await self._turns.next()
                producer = self._live or await self._start()
                delivery = await producer.send(
                    topic, value, key, partition, headers=list(headers.items())
                )
                # From here on aiokafka sends it, whether or not somebody waits.
                until_s = asyncio.get_running_loop().time() + self._settings.append_timeout_s
                done = await asyncio.shield(delivery)
        except (KafkaError, TimeoutError, OSError) as error:
            accepted = delivery is not None
            if isinstance(error, MessageSizeTooLargeError) and not accepted:
                raise InvalidRequest("the event is too large", reason="EVENT_TOO_LARGE") from error
            raise self._failed(producer, error, accepted=accepted) from error
        finally:
            self._turns.end()
            if producer is not None and delivery is not None and not delivery.done():
                self._give_up_at(until_s, producer, delivery)
        return _offset(done)

    async def append_many(
        self, topic: str, records: Iterable[tuple[int, bytes, bytes | None]]
    ) -> dict[int, int]:
        """The last offset by partition, of records (partition, key, value)."""
        producer = None
        bulk = None
        try:
            async with asyncio.timeout(self._settings.append_timeout_s):
                producer = self._live or await self._start()
            bulk = _Bulk(producer, topic, self._settings.append_timeout_s)
            for partition, key, value in records:
                await bulk.add(partition, key, value)
            return await bulk.finish()
        except (KafkaError, TimeoutError, OSError) as error:
            accepted = bulk is not None and bulk.begun
            if accepted and producer is not None and isinstance(error, TimeoutError):
                self._retire(producer, patience_s=0)
            raise self._failed(producer, error, accepted=accepted) from error

    async def check_partitions(self, topic: str, expected: int, timeout_s: float) -> None:
        """Raises FailedPrecondition when the topic has another number of partitions.

        An event in a partition that is not its owner's would be lost to its view, so nothing is
        appended to a topic before this was asked once.
        """
        if topic not in self._partitions:
            try:
                async with asyncio.timeout(timeout_s):
                    producer = self._live or await self._start()
                    self._partitions[topic] = len(await producer.partitions_for(topic))
            except (KafkaError, TimeoutError, OSError) as error:
                raise unavailable(error) from error
        found = self._partitions[topic]
        if found != expected:
            del self._partitions[topic]
            raise FailedPrecondition(
                f"topic {topic} has {found} partitions, the settings say {expected}",
                reason="PARTITIONS_DIFFER",
            )

    async def close(self) -> None:
        """Deliver what was taken, as far as the broker answers in time."""
        if self._live is not None:
            self._retire(self._live)
        await asyncio.gather(*self._retiring)

    async def _start(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._live is not None:
                return self._live
            settings = self._settings
            producer = AIOKafkaProducer(
                bootstrap_servers=settings.kafka_bootstrap,
                client_id="millrace",
                enable_idempotence=True,
                acks="all",
                compression_type=settings.log_compression or None,
                max_batch_size=settings.append_batch_bytes_max,
                # Keys and headers have their place besides the largest value.
                max_request_size=settings.append_batch_bytes_max + 16 * 1024,
                request_timeout_ms=settings.log_request_timeout_ms,
            )
            try:
                await producer.start()
            except BaseException:
                with contextlib.suppress(Exception):
                    await producer.stop()
                raise
            self._live = producer
            return producer

    def _failed(
        self,
        producer: AIOKafkaProducer | None,
        error: KafkaError | TimeoutError | OSError,
        *,
        accepted: bool,
    ) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            if accepted:
                # Not given up here: this wait may have been a short one.
                return OutcomeUnknown("the log has not acknowledged the event in time")
            return unavailable(error)
        # A full buffer, or a topic that is not there (yet), do the producer no harm.
        harmless = isinstance(error, KafkaTimeoutError | UnknownTopicOrPartitionError)
        if producer is not None and not harmless:
            self._retire(producer)
        if accepted:
            return OutcomeUnknown(f"the log refused a batch: {type(error).__name__}")
        return unavailable(error)

    def _give_up_at(
        self, until_s: float, producer: AIOKafkaProducer, delivery: asyncio.Future[Any]
    ) -> None:
        """Unless it is delivered until then, by the loop's clock. Nobody waits for it any more."""

        def look() -> None:
            if not delivery.done():
                self._retire(producer, patience_s=0)

        timer = asyncio.get_running_loop().call_at(until_s, look)

        def ended(delivery: asyncio.Future[Any]) -> None:
            timer.cancel()
            if not delivery.cancelled():
                delivery.exception()

        delivery.add_done_callback(ended)

    def _retire(self, producer: AIOKafkaProducer, *, patience_s: float | None = None) -> None:
        if self._live is producer:
            self._live = None
            if patience_s is None:
                patience_s = self._settings.append_timeout_s
            task = asyncio.create_task(_stop(producer, patience_s))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


class Turns:
    """Who comes alone has his turn at once, who comes within `pause_s` of a turn has the next.

    Alone is who finds nobody on his way; who had a turn says when he has ended.
    """

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._next_s = float("-inf")
        self._waiting: list[asyncio.Future[None]] = []
        self._present = 0

    async def next(self) -> None:
        """Always followed by `end`, also when it raises."""
        self._present += 1
        loop = asyncio.get_running_loop()
        if not self._waiting:
            now_s = loop.time()
            if self._present == 1 or now_s >= self._next_s:
                self._next_s = now_s + self._pause_s
                return
            loop.call_at(self._next_s, self.begin)
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def end(self) -> None:
        self._present -= 1

    def begin(self) -> None:
        """All who wait have their turn now."""
        waiting, self._waiting = self._waiting, []
        # One who waited did not come alone.
        pause_s = pause_after(len(waiting) + 1, self._pause_s)
        self._next_s = asyncio.get_running_loop().time() + pause_s
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)


class _Bulk:
    """Batches filled by hand, which spares a future a record: one open and one sent a partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, timeout_s: float) -> None:
        self._producer = producer
        self._topic = topic
        self._timeout_s = timeout_s
        self._open: dict[int, Any] = {}
        self._sent: dict[int, tuple[asyncio.Future[Any], int]] = {}

    @property
    def begun(self) -> bool:
        return bool(self._sent)

    async def add(self, partition: int, key: bytes, value: bytes | None) -> None:
        batch = self._open.get(partition)
        if batch is not None:
            if batch.append(timestamp=None, key=key, value=value) is not None:
                return
            await self._send(partition)
        batch = self._open[partition] = self._producer.create_batch()
        batch.append(timestamp=None, key=key, value=value)

    async def finish(self) -> dict[int, int]:
        """The last offset by partition, when all are acknowledged."""
        for partition in list(self._open):
            await self._send(partition)
        async with asyncio.timeout(self._timeout_s):
            done = await asyncio.gather(*(future for future, _ in self._sent.values()))
        return {
            partition: _offset(first) + count - 1
            for (partition, (_, count)), first in zip(self._sent.items(), done, strict=True)
        }

    async def _send(self, partition: int) -> None:
        async with asyncio.timeout(self._timeout_s):
            if partition in self._sent:
                await self._sent[partition][0]
            batch = self._open.pop(partition)
            # Closed: else single appends would fill it up, and the count would be wrong.
            batch.close()
            future = await self._producer.send_batch(batch, self._topic, partition=partition)
            self._sent[partition] = future, batch.record_count()


def _offset(done: Any) -> int:
    offset: int = done.offset
    if offset < 0:
        # A duplicate that the broker no longer remembers: written, but nobody knows where.
        raise OutcomeUnknown("the log has the event, but does not say where")
    return offset


async def _stop(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Let it deliver what it had taken, then end it, delivered or not."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError):
        # Its own stop would wait for the broker for ever.
        producer._sender.sender_task.cancel()
        await producer.client.close()
