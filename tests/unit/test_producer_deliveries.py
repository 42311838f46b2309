"""A partition has one batch under way; what comes meanwhile is its next one."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.errors import StoreUnavailable
from millrace.log import producer as module
from millrace.log.producer import Producer
from millrace.settings import Settings


class _Batch:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object:
        self.values.append(value)
        return object()

    def close(self) -> None: ...

    def record_count(self) -> int:
        return len(self.values)


class _Client:
    """Kafka's client, whose broker acknowledges when the test says so."""

    def __init__(self, **_: Any) -> None:
        self.sent: list[tuple[int, list[bytes], asyncio.Future[Any]]] = []
        self.came = asyncio.Condition()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def create_batch(self) -> _Batch:
        return _Batch()

    async def send_batch(
        self, batch: _Batch, _topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self.came:
            self.sent.append((partition, batch.values, answer))
            self.came.notify_all()
        return answer

    async def has_sent(self, count: int) -> None:
        async with self.came:
            await self.came.wait_for(lambda: len(self.sent) >= count)


Started = Callable[[], Awaitable[tuple[Producer, _Client]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    async def start() -> tuple[Producer, _Client]:
        client = _Client()
        monkeypatch.setattr(module, "AIOKafkaProducer", lambda **_: client)
        # Without a pause, so that each append is a turn of its own.
        return Producer(Settings(append_pause_ms=0)), client

    return start


def _append(producer: Producer, partition: int, value: bytes) -> "asyncio.Task[int]":
    return asyncio.create_task(producer.append("likes", partition, b"key", value, {}, 60))


async def test_what_comes_while_a_batch_is_under_way_is_the_next_one(started: Started) -> None:
    producer, client = await started()
    appends = [_append(producer, 0, b"first")]
    await client.has_sent(1)
    appends += [_append(producer, 0, value) for value in (b"second", b"third")]
    appends.append(_append(producer, 1, b"elsewhere"))
    await client.has_sent(2)
    assert [(where, values) for where, values, _ in client.sent] == [
        (0, [b"first"]),
        (1, [b"elsewhere"]),
    ]
    client.sent[0][2].set_result(SimpleNamespace(offset=7))
    client.sent[1][2].set_result(SimpleNamespace(offset=3))
    await client.has_sent(3)
    assert client.sent[2][:2] == (0, [b"second", b"third"])
    client.sent[2][2].set_result(SimpleNamespace(offset=8))
    assert await asyncio.gather(*appends) == [7, 8, 9, 3]
    await producer.close()


async def test_a_batch_that_failed_does_not_keep_back_what_waited(started: Started) -> None:
    producer, client = await started()
    first = _append(producer, 0, b"first")
    await client.has_sent(1)
    second = _append(producer, 0, b"second")
    # Its turn has come when one that began after it is on its way.
    beyond = _append(producer, 1, b"beyond")
    await client.has_sent(2)
    client.sent[0][2].set_exception(OSError("the connection broke"))
    client.sent[1][2].set_result(SimpleNamespace(offset=1))
    with pytest.raises(StoreUnavailable):
        await first
    await client.has_sent(3)
    client.sent[2][2].set_result(SimpleNamespace(offset=2))
    assert [await second, await beyond] == [2, 1]
    await producer.close()
