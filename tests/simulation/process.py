"""A processor that may be stopped, killed and started between any two steps.

Its coroutines are the product's own. What they are given is here: a log, stores and a clock that
let others go on before and after each call, that fail when they are told to, and that answer a
dead process no more.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from millrace.errors import Bug, MillraceError, OutcomeUnknown, PositionMoved, StoreUnavailable
from millrace.log.dead import DeadLetters
from millrace.log.memory import MemoryReader
from millrace.log.port import StoredPositions, TopicPartition
from millrace.settings import Settings
from millrace.views import VIEWS
from streams import fanout, projector, registrations
from streams.delivery import Delivery
from streams.planner import LARGE, SMALL
from streams.progress import Published
from streams.stepping_back import NodeWatch
from tests.simulation.group import SharedReader
from tests.simulation.loop import Lane, turn

AT_2025_MS = 1_750_000_000_000
CHUNKS_MAX = 4
SLOW_S = 2.5
# What is on its way when its caller gives up, or dies, may still be done, once.
MAY_HAVE = {"late": ("apply", "raise_epoch", "append"), "partly": ("write",)}
# Of the feed store's calls those that write rows; the others are "feeds".
ROWS = "rows"
WRITES = ("apply", "raise_epoch", "write", "save_position")


async def done(asked: Callable[[], Awaitable[Any]]) -> None:
    """Nobody is there any more to hear why it was refused."""
    with suppress(MillraceError):
        await asked()


class Restart(Exception):
    """The process ends on purpose, and its supervisor starts it again."""


@dataclass(slots=True)
class SkewedClock:
    """A process's own: all sleep by the same time, each has its own idea of the date."""

    loop: Any
    skew_ms: int = 0

    def now_ms(self) -> int:
        return AT_2025_MS + round(float(self.loop.time()) * 1000) + self.skew_ms

    def monotonic_s(self) -> float:
        return float(self.loop.time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Wired:
    """A store as a process sees it. `kind`: views or feeds, what faults and outages are named."""

    def __init__(self, process: "Process", kind: str, target: Callable[[], Any]) -> None:
        self._process, self._kind, self._target = process, kind, target

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        process, kind, target = self._process, self._kind, self._target

        async def call(*args: Any, **more: Any) -> Any:
            with process.amid(name):
                fault = await process.reach(kind, name)
                if fault == "partly":
                    await target().write(args[0][: len(args[0]) // 2])
                    raise StoreUnavailable("some were not acknowledged")
                asked = partial(getattr(target(), name), *args, **more)
                if fault == "late":
                    process.saw(name, args)
                    process.world.late(process, asked)
                    raise StoreUnavailable("no answer in time")
                try:
                    answer = await asked()
                except PositionMoved:
                    process.world.met["a position that another had moved"] += 1
                    raise
                process.saw(name, args)
                await turn()
                process.check_alive()
                if fault == "after":
                    raise StoreUnavailable("the answer got lost")
                return answer

        setattr(self, name, call)
        return call


class WiredLog:
    """The log as a process sees it."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._log = process.world.log

    @property
    def partitions(self) -> int:
        return int(self._log.partitions)

    def partitions_of(self, topic: str) -> int:
        return int(self._log.partitions_of(topic))

    async def append(self, topic: str, key: bytes, value: bytes | None, **more: Any) -> Any:
        process, asked = self._process, partial(self._log.append, topic, key, value, **more)
        with process.amid(f"append of {topic}"):
            fault = await process.reach("log", "append")
            # What a producer has sent before comes before, or never.
            for earlier in process.world.arriving(process):
                await done(earlier)
            if fault == "late":
                process.world.late(process, asked)
                raise OutcomeUnknown("no acknowledgement came in time")
            appended = await asked()
            await turn()
            process.check_alive()
            if fault == "after":
                raise OutcomeUnknown("no acknowledgement came")
            return appended

    async def ends(self, topic: str) -> list[int]:
        await self._process.reach("log")
        return list(await self._log.ends(topic))

    def reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        return MemoryReader(self._log, positions)

    def group_reader(
        self, group: str, topics: Sequence[str], stored: StoredPositions
    ) -> SharedReader:
        process = self._process
        reader = SharedReader(process.world.groups[group], process, self._log, stored)
        process.readers[group] = reader
        return reader


@dataclass(slots=True)
class Parts:
    """What `StreamParts` holds, for the product's coroutines."""

    settings: Settings
    clock: SkewedClock
    keys: Any
    identity: Any
    log: Any
    views: Any
    ready: bool = False


@dataclass(eq=False)
class Process:
    """`dead`: why it ended, empty while it runs. `paused`: it gets no turn (SIGSTOP)."""

    name: str
    world: Any
    dead: str = "not started"
    paused: bool = False
    life: int = 0
    lanes: dict[str, Lane] = field(default_factory=dict)
    readers: dict[str, SharedReader] = field(default_factory=dict)
    # By kind of store: the next calls fail "before" or "after" they are done, or go "slowly".
    faults: dict[str, deque[str]] = field(default_factory=dict)
    # How often the views had been put back when a view's positions were last read.
    seen: dict[str, int] = field(default_factory=dict)
    # The calls that it is in the middle of.
    calling: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        if not self.dead:
            return
        self.dead, self.paused, self.faults, self.readers = "", False, {}, {}
        self.clock = SkewedClock(self.world.loop)
        self.parts: Any = Parts(
            self.world.settings,
            self.clock,
            self.world.keys,
            self.world.identity,
            WiredLog(self),
            Wired(self, "views", lambda: self.world.views),
        )
        self.life += 1
        for part, work in self.works().items():
            self.add(part, work)

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The parts that run from the start on, by the lane of each."""
        raise NotImplementedError

    def add(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        lane = self.lanes.setdefault(part, Lane(f"{part} of {self.name}", self))
        life = self.life
        self.world.loop.start(lane, work, lambda task: self._ended(part, life, task))

    def kill(self, why: str) -> None:
        if self.dead:
            return
        self.dead = why
        self.world.met.update(f"{why} amid {call}" for call in self.calling.elements())
        for group in self.world.groups.values():
            group.leave(self.name)
        self.world.loop.kill(list(self.lanes.values()))

    @property
    def writing(self) -> bool:
        """Whether it is in the middle of a call that changes something."""
        return any(
            count and (call in WRITES or call.startswith("append"))
            for call, count in self.calling.items()
        )

    @contextmanager
    def amid(self, call: str) -> Iterator[None]:
        self.calling[call] += 1
        try:
            yield
        finally:
            self.calling[call] -= 1

    async def reach(self, kind: str, call: str = "") -> str:
        """Before each call of a store or the log: lets others go on. Returns the fault that is
        left to the caller. Raises StoreUnavailable for a call that fails.
        """
        await turn()
        self.check_alive()
        faults = self.faults.get(ROWS if call == "write" else kind)
        # A fault waits for a call that can have it.
        fault = faults.popleft() if faults and call in MAY_HAVE.get(faults[0], (call,)) else ""
        if fault:
            self.world.met[f"call fails: {fault}"] += 1
        if fault == "slowly":
            await self.clock.sleep(SLOW_S)
            self.check_alive()
        if fault == "before" or kind in self.world.away:
            self.world.met["call while a store is away"] += kind in self.world.away
            raise StoreUnavailable(f"{kind} away")
        return fault

    def saw(self, call: str, args: Sequence[Any]) -> None:
        """Only who reads the positions of a view that was put back can see that it was. A worker
        that by chance stands just where the view is now goes on, and nobody can tell.
        """
        if call == "raise_epoch":
            self.world.met["an epoch rose"] += 1
        if call == "positions":
            self.seen[args[0]] = self.world.restores
        elif call == "apply" and self.seen.get(args[0].view, 0) != self.world.restores:
            self.world.epochs.pop(args[0].view, None)

    def check_alive(self) -> None:
        if self.dead:
            raise asyncio.CancelledError

    def _ended(self, part: str, life: int, task: "asyncio.Task[None]") -> None:
        if self.dead or task.cancelled() or life != self.life:
            return
        error = task.exception()
        opening = part == "registrations" and part not in self.readers
        if error is not None:
            self.world.met[f"process ends: {error}"] += 1
        if isinstance(error, Restart) or (opening and isinstance(error, StoreUnavailable)):
            self.world.ended(self, str(error))
        elif error is not None:
            self.world.ended(self, f"{part} of {self.name} ended: {error!r}", wrong=True)


class Projector(Process):
    """`streams.projector.main`, each of its tasks in a lane of its own."""

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {"progress": self._main()}

    async def _main(self) -> None:
        parts = self.parts
        others = Published(parts.log)
        try:
            progresses = await projector.open_views(parts, VIEWS, others)
        except StoreUnavailable as error:
            raise Restart("a store was away at the start") from error
        backs = {view.name: asyncio.Event() for view in VIEWS}
        for progress in progresses:
            view = progress.view
            self.add(view.name, projector.follow(view, parts, progress, backs[view.name]))
        self.add("registrations", registrations.follow(parts))
        await projector.watch(progresses, backs, parts, others)


class Fanout(Process):
    """`streams.fanout`, with a loop in place of Faust around the same `Delivery`."""

    def works(self) -> dict[str, Coroutine[Any, Any, None]]:
        feeds: Any = Wired(self, "feeds", lambda: self.world.feeds)
        dead = DeadLetters(self.parts.log, "feed", self.clock, ratio_max=1.0, window_events=1_000)
        watch = NodeWatch(self.parts.settings.node_silent_s)
        self.delivery = Delivery(feeds, dead, self.clock, watch)
        self._chunks: dict[str, asyncio.Queue[list[Any]]] = {}
        # Stored positions tell that nobody is behind, though who begins may have to step back.
        self.placed = False
        return {
            "planner": fanout.plan(self.parts),
            "chunks": self._read(),
            "delivery small": self._deliver(SMALL),
            "delivery large": self._deliver(LARGE),
            "positions": self._keep(),
        }

    @property
    def knows_where_to_begin(self) -> bool:
        """Since a node came back, too: until it has looked, nothing seems to be left to do."""
        known = self.delivery.watch.to_record_first(())
        return self.placed and set(known.values()) == {self.world.feeds.generation}

    async def _read(self) -> None:
        reader = self.parts.log.group_reader("fanout", (SMALL, LARGE), self._place)
        while True:
            try:
                records = await reader.batch(CHUNKS_MAX, self.parts.settings.project_wait_s)
            except StoreUnavailable:
                await self.clock.sleep(fanout.RETRY_S)
                continue
            for lane in (SMALL, LARGE):
                if of_lane := [record for record in records if record.topic == lane]:
                    await self._lane(lane).put(of_lane)

    async def _place(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """What was read before is dropped, as by Faust; what is being delivered goes on."""
        self.placed = False
        saved = {one: self.world.feeds.saved("delivery", one) for one in partitions}
        positions = await self.delivery.start_positions(partitions)
        self.world.met["delivery stepped back"] += any(positions[one] < saved[one] for one in saved)
        for queue in self._chunks.values():
            while not queue.empty():
                queue.get_nowait()
        self.placed = True
        return positions

    async def _deliver(self, lane: str) -> None:
        while True:
            try:
                await self.delivery.deliver(await self._lane(lane).get())
            except Bug as error:
                # As the Faust app: what was read before partitions changed hands does not fit.
                raise Restart("delivery missed a record") from error

    def _lane(self, lane: str) -> "asyncio.Queue[list[Any]]":
        return self._chunks.setdefault(lane, asyncio.Queue(1))

    async def _keep(self) -> None:
        while True:
            await self.clock.sleep(self.parts.settings.gossip_check_interval_s)
            try:
                if not await self.delivery.keep():
                    raise Restart("a node came back")
            except StoreUnavailable:
                continue
