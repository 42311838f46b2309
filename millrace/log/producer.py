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
millrace/pause.py) goes together, in one request, with one batch a partition. And a partition's
next batch is begun when its last one has ended: the client sends one at a time anyway, and wakes
all that wait for each.

Not: which partition a key belongs to, or numbers.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from millrace.deadlines import Deadlines
from millrace.errors import FailedPrecondition, OutcomeUnknown, StoreUnavailable
from millrace.log.kafka_errors import unavailable
from millrace.pause import pause_after
from millrace.settings import Settings

T = TypeVar("T")


class Producer:
    """Started by the first append. `topic` is the broker's name of it throughout."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._live: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._delivering: set[asyncio.Task[None]] = set()
        # By topic and partition, while a delivery is under way: what is to follow it.
        self._queues: dict[tuple[str, int], list[_Record]] = {}
        self._turns = Turns(settings.append_pause_ms / 1000, self._begin)
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
        offset: asyncio.Future[int] = self._deadlines.loop.create_future()
        record = _Record(topic, partition, key, value, list(headers.items()), offset)
        try:
            with self._deadlines.within(timeout_s):
                self._turns.add(record)
                return await offset
        except TimeoutError as error:
            if record.given:
                raise _unanswered() from error
            raise unavailable(error) from error
        finally:
            self._turns.end()

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
        await asyncio.gather(*self._delivering, return_exceptions=True)
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

    def _begin(self, turn: Sequence["_Record"]) -> None:
        """Each partition's records of a turn are one batch, which spares a future a record."""
        for record in turn:
            place = record.topic, record.partition
            if (queue := self._queues.get(place)) is not None:
                queue.append(record)
                continue
            self._queues[place] = [record]
            task = asyncio.create_task(self._deliver_queue(place))
            self._delivering.add(task)
            task.add_done_callback(self._delivering.discard)

    async def _deliver_queue(self, place: tuple[str, int]) -> None:
        """What has come meanwhile goes together, after what came before."""
        try:
            while records := self._queues[place]:
                self._queues[place] = []
                await self._deliver(*place, records)
        finally:
            del self._queues[place]

    async def _deliver(self, topic: str, partition: int, records: Sequence["_Record"]) -> None:
        """Raises nothing: each record's offset says what became of it."""
        producer, accepted = None, False
        given: Sequence[_Record] = records
        try:
            async with asyncio.timeout(self._settings.append_timeout_s):
                producer = self._live or await self._start()
                # What nobody waits for any more is not sent: its writer was told so.
                while records := [record for record in records if not record.offset.done()]:
                    batch, count = _filled(producer, records)
                    given, records = records[:count], records[count:]
                    for record in given:
                        record.given = True
                    accepted = False
                    delivery = await producer.send_batch(batch, topic, partition=partition)
                    accepted = True
                    _answer(given, await delivery)
        except (KafkaError, TimeoutError, OSError) as error:
            if producer is not None and accepted and isinstance(error, TimeoutError):
                # Sent later, an event could undo what its writer has written meanwhile.
                self._retire(producer, patience_s=0)
            self._refuse(given, producer, error, accepted=accepted)
            self._refuse(records, producer, error, accepted=False)
        except Exception as error:  # noqa: BLE001  it belongs to those who wait
            if producer is not None:
                # Nobody knows what it may still send.
                self._retire(producer, patience_s=0)
            for record in (*given, *records):
                if not record.offset.done():
                    record.offset.set_exception(_unforeseen(error) if record.given else error)

    def _refuse(
        self,
        records: Sequence["_Record"],
        producer: AIOKafkaProducer | None,
        error: KafkaError | TimeoutError | OSError,
        *,
        accepted: bool,
    ) -> None:
        for record in records:
            if not record.offset.done():
                record.offset.set_exception(self._failed(producer, error, accepted=accepted))

    def _failed(
        self,
        producer: AIOKafkaProducer | None,
        error: KafkaError | TimeoutError | OSError,
        *,
        accepted: bool,
    ) -> StoreUnavailable:
        if isinstance(error, TimeoutError):
            return _unanswered() if accepted else unavailable(error)
        # A full buffer, or a topic that is not there (yet), do the producer no harm.
        harmless = isinstance(error, KafkaTimeoutError | UnknownTopicOrPartitionError)
        if producer is not None and not harmless:
            self._retire(producer)
        if accepted:
            return OutcomeUnknown(f"the log refused a batch: {type(error).__name__}")
        return unavailable(error)

    def _retire(self, producer: AIOKafkaProducer, *, patience_s: float | None = None) -> None:
        if self._live is producer:
            self._live = None
            if patience_s is None:
                patience_s = self._settings.append_timeout_s
            task = asyncio.create_task(_stop(producer, patience_s))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


class Turns(Generic[T]):
    """Who comes alone has his turn at once, who comes within `pause_s` of a turn has the next.

    `begin` gets all whose turn it is, in the order in which they came. Alone is who finds nobody
    on his way; who had a turn says when he has ended.
    """

    def __init__(self, pause_s: float, begin: Callable[[Sequence[T]], None]) -> None:
        self._pause_s = pause_s
        self._begin = begin
        self._next_s = float("-inf")
        self._waiting: list[T] = []
        self._present = 0

    def add(self, one: T) -> None:
        """Always followed by `end`."""
        self._present += 1
        if not self._waiting:
            loop = asyncio.get_running_loop()
            now_s = loop.time()
            if self._present == 1 or now_s >= self._next_s:
                self._next_s = now_s + self._pause_s
                self._begin([one])
                return
            loop.call_at(self._next_s, self.begin)
        self._waiting.append(one)

    def end(self) -> None:
        self._present -= 1

    def begin(self) -> None:
        """All who wait have their turn now."""
        waiting, self._waiting = self._waiting, []
        # One who waited did not come alone.
        pause_s = pause_after(len(waiting) + 1, self._pause_s)
        self._next_s = asyncio.get_running_loop().time() + pause_s
        self._begin(waiting)


class _Record:
    """On its way into the log. `given`: Kafka's client has it, or may have it."""

    __slots__ = ("given", "headers", "key", "offset", "partition", "topic", "value")

    def __init__(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        offset: asyncio.Future[int],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.key = key
        self.value = value
        self.headers = headers
        self.offset = offset
        self.given = False


def _filled(producer: AIOKafkaProducer, records: Iterable[_Record]) -> tuple[Any, int]:
    """A batch of the first of them, and how many it holds: one at least."""
    batch = producer.create_batch()
    for record in records:
        held = batch.append(
            timestamp=None, key=record.key, value=record.value, headers=record.headers
        )
        if held is None:
            break
    # Else the client would add to it what others send, and offsets would be wrong.
    batch.close()
    return batch, batch.record_count()


def _answer(given: Sequence[_Record], done: Any) -> None:
    for place, record in enumerate(given):
        if record.offset.done():
            continue
        if done.offset < 0:
            record.offset.set_exception(_nowhere())
        else:
            record.offset.set_result(done.offset + place)


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
        raise _nowhere()
    return offset


def _nowhere() -> OutcomeUnknown:
    """A duplicate that the broker no longer remembers: written, but nobody knows where."""
    return OutcomeUnknown("the log has the event, but does not say where")


def _unforeseen(error: Exception) -> OutcomeUnknown:
    unknown = OutcomeUnknown(f"the log's client failed: {type(error).__name__} {error}".rstrip())
    unknown.__cause__ = error
    return unknown


def _unanswered() -> OutcomeUnknown:
    return OutcomeUnknown("the log has not acknowledged the event in time")


async def _stop(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """Let it deliver what it had taken, then end it, delivered or not."""
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except Exception:  # noqa: BLE001  however it fails to stop, its connection is closed
        # Its own stop would wait for the broker for ever.
        producer._sender.sender_task.cancel()
        await producer.client.close()
