"""One view follows the log: the core of the projector, of replay and of the simulator.

Takes reader, store, log and clock as arguments and does no I/O of its own.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from millrace.clock import Clock
from millrace.errors import Bug, PoisonEvent, PositionMoved, StoreUnavailable
from millrace.log.codec import Event, decode
from millrace.log.dead import DeadLetters
from millrace.log.port import Log, LogReader, Record
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

TopicPartition = tuple[str, int]


@dataclass(slots=True)
class _Taken:
    """One record on its way: what it changes, or why it never can."""

    record: Record
    changes: Sequence[Change] = ()
    poison: str = ""
    trace: str = ""


@dataclass(slots=True)
class Projection:
    """Applies a view's events in log order, each exactly once, however often it is killed.

    The stored position decides, not the reader's: the transaction moves it from exactly where
    the batch starts, so a second worker on the same partition fails its move, applies nothing
    and reads the stored position again.

    `went_back` is awaited when a stored position has fallen, before anything is applied again:
    else the view might have caught up before anybody saw it, and its epoch would stand.
    """

    view: View
    store: ViewStore
    log: Log
    opener: TextOpener
    dead: DeadLetters
    clock: Clock
    went_back: Callable[[], Awaitable[None]] | None = None
    at: dict[TopicPartition, int] = field(default_factory=dict)

    async def start_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to go on, as stored. Called when partitions are handed to this worker."""
        stored = await self.store.positions(self.view.name)
        fell = any(key in stored and stored[key].position < at for key, at in self.at.items())
        if fell and self.went_back is not None:
            await self.went_back()
        for partition in partitions:
            if partition not in stored:
                raise Bug(f"view {self.view.name} has no position for {partition}")
            self.at[partition] = stored[partition].position
        return {partition: self.at[partition] for partition in partitions}

    async def step(self, reader: LogReader, *, events_max: int, wait_s: float) -> int:
        """Read and apply one batch; returns how many records it had. Waits out lost stores."""
        records = await reader.batch(events_max, wait_s)
        if not records:
            return 0
        records = [record for record in records if self._is_new(record)]
        delay_s = RETRY_FIRST_S
        taken: list[_Taken] = []
        moved, size = False, len(records)
        while records:
            try:
                if moved:
                    # Waited for here: a reader left beyond a stored position would lose events.
                    await self._reread(reader, records)
                    return 0
                # Taken once: a dead letter that is written is not written again on a retry, and
                # halves that are applied are not applied again: positions would fall.
                taken = taken or await self._take(records)
                while left := [one for one in taken if self._is_new(one.record)]:
                    await self._apply(left[:size])
                return len(records)
            except PositionMoved:
                moved = True
            except StoreUnavailable as error:
                logger.warning("waiting", view=self.view.name, why=error.message)
                # A store that is slow gets less at a time: something is always done for good.
                size = max(size // 4, EVENTS_AT_ONCE_MIN)
                await self.clock.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)
        return 0

    def _is_new(self, record: Record) -> bool:
        at = self.at.get((record.topic, record.partition))
        return at is not None and record.number > at

    async def _reread(self, reader: LogReader, records: Sequence[Record]) -> None:
        touched = list(dict.fromkeys((record.topic, record.partition) for record in records))
        for (topic, partition), position in (await self.start_positions(touched)).items():
            reader.seek(topic, partition, position)

    async def _take(self, records: Sequence[Record]) -> list[_Taken]:
        taken = [_Taken(record) for record in records]
        decoded: list[tuple[_Taken, Event]] = []
        for one in taken:
            try:
                decoded.append((one, decode(one.record)))
            except PoisonEvent as error:
                one.poison = error.message
        closed = await self.opener.open([event for _, event in decoded])
        for index, (one, event) in enumerate(decoded):
            one.trace = event.trace
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
        return taken

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
            ends[one.record.topic, one.record.partition] = one.record.number
        moves = tuple(
            Move(topic, partition, self.at[topic, partition], end)
            for (topic, partition), end in sorted(ends.items())
        )
        return Batch(self.view.name, moves, [change for one in taken for change in one.changes])
