"""One view follows the log: the core of the projector, of replay and of the simulator.

Takes reader, store, log and clock as arguments and does no I/O of its own. Where more waits than
one batch, the next one is read and projected while the store is at work on this one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from millrace.clock import Clock
from millrace.errors import Bug, PoisonEvent, PositionMoved, StoreUnavailable
from millrace.log.codec import Event, decode
from millrace.log.port import LogReader, ReadingLog, Record
from millrace.observe import logs, metrics
from millrace.relations import View
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.port import ViewStore
from millrace.views.data_keys import TextOpener

logger = logs.logger("streams.projection")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0
EVENTS_AT_ONCE_MIN = 50
# Only traces that are told come with their events. A line costs more than to apply an event, so
# where somebody samples all, a few a batch are told.
TRACES_MAX = 8
# Whoever reads and projects ahead lets the store's answers through after so many events.
EVENTS_A_TURN = 200

TopicPartition = tuple[str, int]


class Letters(Protocol):
    """Where events go that the view can never take: `DeadLetters`, or a replay's list."""

    async def put(self, record: Record, reason: str) -> None:
        """Raises FailedPrecondition when there are too many of them."""

    def count(self, events: int) -> None:
        """So many events were taken, dead ones included."""


@dataclass(slots=True)
class _Taken:
    """One record on its way: what it changes, once it is projected, or why it never can.

    `placings`: how many there had been when it was read.
    """

    record: Record
    place: TopicPartition
    placings: int
    projected: bool = False
    changes: Sequence[Change] = ()
    poison: str = ""
    trace: str = ""


@dataclass(slots=True)
class Projection:
    """Applies a view's events in log order, each exactly once, however often it is killed.

    The stored position decides, not the reader's: the transaction moves it from exactly where
    the batch starts, so a second worker on the same partition fails its move, applies nothing
    and reads the stored position again.

    `went_back` is awaited whenever stored positions were read, before anything is applied after
    them: else a view that went back might have caught up before anybody saw it, and its epoch
    would stand. Not only where this worker sees a fall: what was lost may be another's work.

    One batch at most is read ahead. What was read of a partition before `start_positions` placed
    it anew is dropped, since its reader reads it again; and that waits for the end of an apply, so
    that the position it tells is not in doubt.
    """

    view: View
    store: ViewStore
    log: ReadingLog
    opener: TextOpener
    dead: Letters
    clock: Clock
    went_back: Callable[[], Awaitable[None]] | None = None
    at: dict[TopicPartition, int] = field(default_factory=dict)
    _ahead: list[_Taken] = field(default_factory=list)
    _applying: asyncio.Lock = field(default_factory=asyncio.Lock)
    _placed: dict[TopicPartition, int] = field(default_factory=dict)
    _placings: int = 0

    async def start_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to go on, as stored. Called when partitions are handed to this worker."""
        async with self._applying:
            stored = await self.store.positions(self.view.name)
            if self.went_back is not None:
                await self.went_back()
            self._placings += 1
            for partition in partitions:
                if partition not in stored:
                    raise Bug(f"view {self.view.name} has no position for {partition}")
                self.at[partition] = stored[partition].position
                self._placed[partition] = self._placings
            return {partition: self.at[partition] for partition in partitions}

    async def step(self, reader: LogReader, *, events_max: int, wait_s: float) -> int:
        """Read and apply one batch; returns how many events were applied. Waits out lost stores.

        While a full batch is applied the next one is read, which is then the next step's.
        """
        taken, self._ahead = self._ahead, []
        if not taken:
            taken = await self._read(reader, events_max, wait_s)
        if not taken:
            return 0
        ahead: asyncio.Task[list[_Taken]] | None = None
        if len(taken) >= events_max:
            ahead = asyncio.create_task(self._read_ahead(reader, events_max))
        try:
            applied, moved = await self._applied(taken)
            following = await ahead if ahead else []
        except BaseException:
            if ahead:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            raise
        if moved:
            await self._reread(reader, taken + following)
        else:
            self._ahead = following
        return applied

    @property
    def ahead(self) -> int:
        """Records that are read and not yet applied, between two steps."""
        return len(self._ahead)

    async def _read(self, reader: LogReader, events_max: int, wait_s: float) -> list[_Taken]:
        records = await reader.batch(events_max, wait_s)
        placings = self._placings
        return [_Taken(record, (record.topic, record.partition), placings) for record in records]

    async def _read_ahead(self, reader: LogReader, events_max: int) -> list[_Taken]:
        """What is there already, as far as no store is away: nothing is waited for."""
        taken: list[_Taken] = []
        with suppress(StoreUnavailable):
            while left := min(events_max - len(taken), EVENTS_A_TURN):
                some = await self._read(reader, left, 0)
                if not some:
                    break
                taken += some
                await self._project(some)
        return taken

    async def _applied(self, taken: Sequence[_Taken]) -> tuple[int, bool]:
        """How many events, and whether a position had moved: what is left is another's then."""
        size, applied, delay_s, away = len(taken), 0, RETRY_FIRST_S, False
        while True:
            try:
                if away:
                    await self._look_again({one.place for one in taken})
                    away = False
                # Once: a dead letter that is written is not written again on a retry, and halves
                # that are applied are not applied again: positions would fall.
                await self._project([one for one in taken if not one.projected])
                while some := await self._apply_some(taken, size):
                    applied += some
                return applied, False
            except PositionMoved:
                return applied, True
            except StoreUnavailable as error:
                # A store that is slow gets less at a time: something is always done for good.
                size = max(size // 4, EVENTS_AT_ONCE_MIN)
                delay_s = await self._wait(error, delay_s)
                away = True

    async def _look_again(self, places: Set[TopicPartition]) -> None:
        """Raises PositionMoved where the store, back again, stands elsewhere: it may have taken
        what it did not answer, or lost it.
        """
        async with self._applying:
            stored = await self.store.positions(self.view.name)
            if self.went_back is not None:
                await self.went_back()
            for place in places & self.at.keys():
                if place not in stored or stored[place].position != self.at[place]:
                    raise PositionMoved(f"{self.view.name} stands elsewhere than it did")

    async def _apply_some(self, taken: Sequence[_Taken], size: int) -> int:
        """How many of what is new and still ours; 0 when nothing is left."""
        async with self._applying:
            at, placed = self.at, self._placed
            if self._placings != taken[0].placings:
                taken = [one for one in taken if placed.get(one.place, 0) <= one.placings]
            left = [one for one in taken if one.place in at and one.record.number > at[one.place]]
            if left:
                await self._apply(left[:size])
            return min(len(left), size)

    async def _reread(self, reader: LogReader, dropped: Sequence[_Taken]) -> None:
        """Waits for the store: a reader left beyond a stored position would lose events."""
        touched = list(dict.fromkeys(one.place for one in dropped))
        delay_s = RETRY_FIRST_S
        while True:
            try:
                positions = await self.start_positions(touched)
                break
            except StoreUnavailable as error:
                delay_s = await self._wait(error, delay_s)
        for (topic, partition), position in positions.items():
            reader.seek(topic, partition, position)

    async def _wait(self, error: StoreUnavailable, delay_s: float) -> float:
        """Returns how long to wait the next time."""
        logger.warning("waiting", view=self.view.name, why=error.message)
        await self.clock.sleep(delay_s)
        return min(delay_s * 2, RETRY_MAX_S)

    async def _project(self, taken: Sequence[_Taken]) -> None:
        for start in range(0, len(taken), EVENTS_A_TURN):
            await self._project_some(taken[start : start + EVENTS_A_TURN])
            await asyncio.sleep(0)

    async def _project_some(self, taken: Sequence[_Taken]) -> None:
        decoded: list[tuple[_Taken, Event]] = []
        for one in taken:
            try:
                decoded.append((one, decode(one.record)))
            except PoisonEvent as error:
                one.projected, one.poison = True, error.message
        closed = await self.opener.open([event for _, event in decoded])
        for index, (one, event) in enumerate(decoded):
            one.projected, one.trace = True, event.trace
            if index in closed:
                one.poison = closed[index].message
                continue
            try:
                one.changes = self.view.project(event)
            except PoisonEvent as error:
                one.poison = error.message
            except Exception:
                # A projection that fails on an event fails on it for ever: the event waits as
                # a dead letter for a better one, the others go on.
                logger.exception("project failed", view=self.view.name, number=one.record.number)
                one.poison = "project failed"

    async def _apply(self, taken: Sequence[_Taken]) -> None:
        """Halves a batch that the store refuses until the bad event stands alone."""
        for one in taken:
            if one.poison:
                await self.dead.put(one.record, one.poison)
                metrics.VIEW_DEAD.labels(self.view.name).inc()
                logger.error(
                    "dead letter", view=self.view.name, number=one.record.number, why=one.poison
                )
                one.changes, one.poison = (), ""
        batch = self._batch(taken)
        try:
            await self.store.apply(self.view.schema, batch)
        except PoisonEvent as error:
            if len(taken) == 1:
                taken[0].poison = error.message
                await self._apply(taken)
                return
            middle = len(taken) // 2
            await self._apply(taken[:middle])
            await self._apply(taken[middle:])
            return
        for move in batch.moves:
            self.at[move.topic, move.partition] = move.end
        self.dead.count(len(taken))
        traces = dict.fromkeys(one.trace for one in taken if one.trace)
        for trace in islice(traces, TRACES_MAX):
            logger.info("applied", trace=trace, view=self.view.name)

    def _batch(self, taken: Sequence[_Taken]) -> Batch:
        ends: dict[TopicPartition, int] = {}
        for one in taken:
            ends[one.place] = one.record.number
        moves = tuple(
            Move(topic, partition, self.at[topic, partition], end)
            for (topic, partition), end in sorted(ends.items())
        )
        return Batch(self.view.name, moves, [change for one in taken for change in one.changes])
