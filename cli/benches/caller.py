"""A client in a process of its own: `python -m cli.benches.caller`, asked and answering in JSON.

One line on standard input is one turn (`Turn`), one line on standard output what came of it
(`Done`). Closed loop (`rate` 0): `at_once` calls, each followed by the next. Open loop: calls
begin at fixed times whatever the server does, and latency counts from the intended start.
"""

import asyncio
import json
import random
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import numpy as np
import uvloop

from social.v1 import feed_pb2, feed_pb2_grpc, likes_pb2, likes_pb2_grpc

_CALL_TIMEOUT_S = 10.0
_UNDER_WAY_MAX = 2_000
_PAGE_ITEMS = 30
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """`rpc`: like or feed. `metadata`: of each session; `media_ids`: what may be liked."""

    address: str
    rpc: str
    seconds: float
    at_once: int = 64
    rate: float = 0.0
    metadata: list[list[list[str]]] = field(default_factory=list)
    media_ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Done:
    """`items`: feed items read, all answers together. Calls that failed have no latency."""

    calls: int
    failed: int
    seconds: float
    items: int = 0
    quantiles_ms: dict[str, float] = field(default_factory=dict)
    failure: str = ""


class _Caller:
    def __init__(self, turn: Turn, channels: list[grpc.aio.Channel]) -> None:
        self._turn = turn
        self._metadata = [[(name, value) for name, value in one] for one in turn.metadata]
        likes = [likes_pb2_grpc.LikesServiceStub(channel) for channel in channels]
        feeds = [feed_pb2_grpc.FeedServiceStub(channel) for channel in channels]
        self._like = [stub.LikeMedia for stub in likes]
        self._feed = [stub.GetFeed for stub in feeds]
        self._random = random.Random(1)  # noqa: S311  picks who calls
        self._latencies_s: list[float] = []
        self._count = self._failed = self._items = 0
        self._failure = ""

    async def run(self) -> Done:
        start_s = time.perf_counter()
        if self._turn.rate:
            await self._open_loop(start_s)
        else:
            await self._closed_loop(start_s + self._turn.seconds)
        seconds = time.perf_counter() - start_s
        return Done(
            len(self._latencies_s),
            self._failed,
            seconds,
            self._items,
            _quantiles_ms(self._latencies_s),
            self._failure,
        )

    async def _closed_loop(self, end_s: float) -> None:
        async def one_after_another() -> None:
            while (now_s := time.perf_counter()) < end_s:
                await self._call(now_s)

        await asyncio.gather(*(one_after_another() for _ in range(self._turn.at_once)))

    async def _open_loop(self, start_s: float) -> None:
        under_way: set[asyncio.Task[None]] = set()
        for number in range(int(self._turn.rate * self._turn.seconds)):
            intended_s = start_s + number / self._turn.rate
            if (left_s := intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s)
            if len(under_way) >= _UNDER_WAY_MAX:
                self._failed += 1
                continue
            task = asyncio.create_task(self._call(intended_s))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _call(self, intended_s: float) -> None:
        self._count += 1
        number, session = self._count, self._random.randrange(len(self._metadata))
        try:
            if self._turn.rpc == "like":
                await self._like_one(number, session)
            else:
                await self._read_feed(number, session)
        except grpc.aio.AioRpcError as error:
            self._failed += 1
            self._failure = f"{error.code().name}: {error.details()}"
            return
        self._latencies_s.append(time.perf_counter() - intended_s)

    async def _like_one(self, number: int, session: int) -> None:
        media_id = self._random.choice(self._turn.media_ids)
        request = likes_pb2.LikeMediaRequest(request_id=str(uuid.uuid4()), media_id=media_id)
        await self._like[number % _CONNECTIONS](
            request, metadata=self._metadata[session], timeout=_CALL_TIMEOUT_S
        )

    async def _read_feed(self, number: int, session: int) -> None:
        request = feed_pb2.GetFeedRequest(page_size=_PAGE_ITEMS)
        answer = await self._feed[number % _CONNECTIONS](
            request, metadata=self._metadata[session], timeout=_CALL_TIMEOUT_S
        )
        self._items += len(answer.items)


def _quantiles_ms(latencies_s: list[float]) -> dict[str, float]:
    if not latencies_s:
        return {}
    p50, p99 = np.quantile(latencies_s, (0.5, 0.99))
    return {"p50": float(p50) * 1000, "p99": float(p99) * 1000}


async def _answer() -> None:
    channels: dict[str, list[grpc.aio.Channel]] = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        turn = Turn(**json.loads(line))
        if turn.address not in channels:
            options: Any = [("grpc.use_local_subchannel_pool", 1)]
            channels[turn.address] = [
                grpc.aio.insecure_channel(turn.address, options=options)
                for _ in range(_CONNECTIONS)
            ]
        done = await _Caller(turn, channels[turn.address]).run()
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    uvloop.run(_answer())
