"""One look: fix a position, wait for the views, ask the log, ask what is served, and leave out what
was touched meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from millrace.clock import Clock
from millrace.errors import FailedPrecondition
from millrace.log.codec import Event
from millrace.log.port import ReadingLog
from millrace.stores.feed_port import RowStore
from millrace.stores.port import ViewStore
from streams.audit.difference import Difference, at
from streams.audit.events import Ends, Events, covered
from streams.audit.keys import Keys
from streams.audit.served import Served

T = TypeVar("T")
# In these topics ids and requests of several owners may clash.
SHARED_TOPICS = ("media", "comments")
READS_PARALLEL = 8
# What is served beyond what is expected is read no further than that.
TOO_MANY = 10_000
# Members that may change while a slice is read.
TOUCHED_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """`keys_max` and `members_max` of a slice; `wait_s` for the views; `again_s` between looks."""

    keys_max: int
    members_max: int
    wait_s: float
    again_s: float


@dataclass(frozen=True, slots=True)
class Stores:
    """The log, and where views and feeds are."""

    log: ReadingLog
    views: ViewStore
    feeds: RowStore
    clock: Clock


@dataclass(frozen=True, slots=True)
class Sources(Stores):
    """What is compared: `served` with the log."""

    served: Served


class Part(Protocol):
    """What the log says of a slice: `Slice` or `FeedSlice`."""

    @property
    def keys(self) -> Keys: ...
    def begin(self) -> None: ...
    def note(self, event: Event) -> None: ...
    def feed(self, event: Event) -> None: ...
    def touch(self, event: Event) -> int: ...


class Subject(Protocol):
    """What is looked at: the relations of users, those of media, or feeds."""

    @property
    def name(self) -> str: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def views(self) -> Sequence[str]: ...

    def part(self, keys: Keys, members_max: int) -> Any: ...

    async def compare(self, part: Any, served: Served) -> Any:
        """What is served otherwise than expected, before what was touched is left out."""

    def differences(self, part: Any, unequal: Any, ends: Ends) -> list[Difference]:
        """The rest, when all that was touched is known."""


async def look(
    subject: Subject,
    keys: Keys,
    sources: Sources,
    bounds: Bounds,
    doing: Callable[[str], None],
    *,
    strays: bool = False,
) -> tuple[str, list[Difference]]:
    """The position, and what differs at it. `strays`: keys that are served and that the log may
    never have named are looked at as well.
    """
    log = sources.log
    events = Events(log)
    ends = await events.ends(subject.topics)
    doing("waiting for the views")
    await covered(sources.views, subject.views, ends, sources.clock, bounds.wait_s)
    await events.learn_dead(subject.topics)
    part: Part = subject.part(keys, bounds.members_max)
    await _read(part, subject.topics, events, ends, doing)
    if strays:
        async for key in sources.served.keys(subject.name):
            keys.take(key)
    doing(f"{len(keys):,} {subject.name}: reading what is served")
    unequal = await subject.compare(part, sources.served)
    now = await events.ends(subject.topics)
    async for event in Events(log).all(subject.topics, ends, now):
        if part.touch(event) > TOUCHED_MAX:
            raise FailedPrecondition(
                "too much was written while a slice was read: a lower audit_keys_max helps",
                reason="AUDIT_OUTRUN",
            )
    return at(ends, subject.topics), subject.differences(part, unequal, ends)


async def _read(
    part: Part, topics: Sequence[str], events: Events, ends: Ends, doing: Callable[[str], None]
) -> None:
    for topic in topics:
        doing(f"reading topic {topic}")
        part.begin()
        if part.keys.chosen and topic in SHARED_TOPICS:
            async for event in events.all([topic], {}, ends):
                part.note(event)
        async for event in events.all([topic], {}, ends):
            part.feed(event)


async def each(things: Iterable[T], read: Callable[[T], Awaitable[None]]) -> None:
    """A few at a time."""
    waiting = iter(things)

    async def some() -> None:
        for thing in waiting:
            await read(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(READS_PARALLEL):
                group.create_task(some())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def first(members: AsyncGenerator[T], limit: int) -> list[T]:
    """Not more than that many: a view that is wrong at large must not fill the memory."""
    found: list[T] = []
    async with aclosing(members):
        async for member in members:
            found.append(member)
            if len(found) >= limit:
                break
    return found
