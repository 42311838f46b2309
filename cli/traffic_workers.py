"""The processes that make the traffic, from the side of whoever ordered it.

async with working(orders) as workers:
    ids = await workers.registered(told)        # where they register people by RPC
    acknowledged = await workers.come_online(ids, told)
    record = await workers.play(turn, seen)

They end with this process. What one has made (uploads, newcomers) the others are told.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import grpc

from cli.processes import ROOT
from deploy.local.child import bound_argv
from millrace.errors import MillraceError, StoreUnavailable
from millrace.traffic.orders import (
    LINE_BYTES_MAX,
    Handed,
    Order,
    Turn,
    content_of,
    handed_of,
    line_of,
)
from millrace.traffic.record import Acknowledged, Record
from millrace.traffic.tally import Tally

T = TypeVar("T")
_REACHABLE_S = 5.0
# How many of all are done: (done, total).
Told = Callable[[int, int], None]


@dataclass(slots=True)
class Seen:
    """A turn while it goes on. `newest`: the calls of the last whole window."""

    under_way: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    newest: Tally = field(default_factory=Tally)


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, kind: str, content: Any = None) -> None:
        asked = self._process.stdin
        if asked is not None and not asked.is_closing():
            asked.write(line_of(kind, content))

    async def hear(self) -> tuple[str, Any]:
        """Raises MillraceError when it has failed or has ended."""
        answers = self._process.stdout
        line = await answers.readline() if answers is not None else b""
        if not line:
            raise MillraceError("a traffic process has ended")
        kind, content = json.loads(line)
        if kind == "failed":
            raise MillraceError(f"a traffic process: {content}")
        return str(kind), content

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Workers:
    def __init__(self, workers: Sequence[_Worker]) -> None:
        self._workers = workers
        self._posted: list[tuple[int, int]] = []

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    async def registered(self, told: Told) -> list[int]:
        """The user ids of the graph's people, when all are registered by RPC."""
        found: dict[int, int] = {}
        for people in await self._each("people", told):
            found |= dict(people)
        return [found[person] for person in sorted(found)]

    async def come_online(self, user_ids: Sequence[int], told: Told) -> Acknowledged:
        """Who acts has a session then. Returns what was written by RPC up to now."""
        self._tell_all("people", list(user_ids))
        acknowledged = Acknowledged()
        for one in await self._each("ready", told):
            acknowledged.add_all(Acknowledged.from_json(one["acknowledged"]))
            self._posted += one["media"]
        return acknowledged

    async def play(self, turn: Turn, seen: Callable[[Seen], None]) -> Record:
        """Returns when every call has ended. `seen` is called twice a second. What is `posted` they
        know themselves.
        """
        self._tell_all("turn", content_of(replace(turn, posted=self._posted)))
        latest: dict[int, dict[str, Any]] = {}

        async def play(worker: _Worker) -> Record:
            while True:
                kind, content = await worker.hear()
                if kind == "done":
                    return Record.from_json(content)
                if kind == "tick":
                    self._pass_on(worker, content["news"])
                    latest[worker.pid] = content
                    seen(_seen(latest.values()))

        record, *others = await _all(play, self._workers)
        for other in others:
            record.add_all(other)
        return record

    def stop(self) -> None:
        """No more calls of this turn are begun."""
        self._tell_all("stop")

    async def sessions(self, count: int) -> list[Handed]:
        """Of about so many people; the workers do not use them any more."""
        each = -(-count // len(self._workers))
        self._tell_all("sessions", each)
        found = await self._each("sessions", lambda _done, _total: None)
        return [handed_of(one) for of_one in found for one in of_one]

    def _pass_on(self, teller: _Worker, news: dict[str, list[Any]]) -> None:
        if any(news.values()):
            for worker in self._workers:
                if worker is not teller:
                    worker.tell("news", news)

    def _tell_all(self, kind: str, content: Any = None) -> None:
        for worker in self._workers:
            worker.tell(kind, content)

    async def _each(self, awaited: str, told: Told) -> list[Any]:
        """The content of this kind from every one; meanwhile their steps."""
        steps: dict[int, tuple[int, int]] = {}

        async def hear(worker: _Worker) -> Any:
            while True:
                kind, content = await worker.hear()
                if kind == awaited:
                    return content
                if kind == "step":
                    steps[worker.pid] = content
                    told(sum(done for done, _ in steps.values()), sum(n for _, n in steps.values()))

        return await _all(hear, self._workers)


async def _all(
    do: Callable[[_Worker], Coroutine[Any, Any, T]], workers: Sequence[_Worker]
) -> list[T]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(do(worker)) for worker in workers]
    except* MillraceError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _seen(ticks: Any) -> Seen:
    seen: Seen | None = None
    for tick in ticks:
        newest = Tally.from_json(tick["newest"])
        if seen is None:
            seen = Seen(newest=Tally(newest.window_s))
        seen.under_way += tick["under_way"]
        seen.outcomes += Counter(tick["outcomes"])
        seen.newest.add_all(newest)
    return seen or Seen()


async def reachable(address: str) -> None:
    """Raises StoreUnavailable at once when nothing listens there, or when nobody answers soon."""
    async with grpc.aio.insecure_channel(address) as channel:
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise StoreUnavailable(f"nothing answers at {address}")
            try:
                async with asyncio.timeout(_REACHABLE_S):
                    await channel.wait_for_state_change(state)
            except TimeoutError:
                raise StoreUnavailable(f"nothing answers at {address}") from None
            state = channel.get_state()


@asynccontextmanager
async def working(orders: Sequence[Order]) -> AsyncIterator[Workers]:
    """Raises StoreUnavailable when nothing answers at an address."""
    for address in {order.address for order in orders}:
        await reachable(address)
    workers: list[_Worker] = []
    try:
        for order in orders:
            process = await asyncio.create_subprocess_exec(
                *bound_argv((sys.executable, "-m", "millrace.traffic.worker")),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
                start_new_session=True,
                cwd=ROOT,
            )
            workers.append(_Worker(process))
            workers[-1].tell("order", content_of(order))
        yield Workers(workers)
    finally:
        await asyncio.gather(*(worker.end() for worker in workers))
