"""Builds a view again from the log, beside the served one; compares the two at one position;
switches, and keeps the old one. The design and its reasons: docs/adr/replay.md.

Takes log, stores and clock as arguments. Sends nothing and writes no event: `log` has nothing to
write with, and an import rule keeps producers and clients away from here.

Killed at any moment it goes on where it was, when the same is asked again.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from millrace.clock import Clock
from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.log.letters import PassedOver
from millrace.log.port import ReadingLog, TopicPartition
from millrace.log.topics import TOPICS
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Batch, Move
from millrace.stores.postgres import PostgresStore
from millrace.stores.postgres_beside import (
    FOLLOWING,
    KEPT,
    LOADING,
    REPEATING,
    Beside,
    DeadFound,
    look_beside,
)
from millrace.stores.postgres_compare import Comparison, TableCompared
from millrace.stores.postgres_load import EdgeLoad, may_be_loaded
from millrace.views.data_keys import TextOpener
from streams.projection import Projection
from streams.replay_letters import ReplayLetters, without_letters
from streams.replay_load import Loading
from streams.replay_reader import ReaderUntil
from streams.throttle import Throttle

# How often a switch is tried that readers, or a long tail, did not let through.
SWITCHES_MAX = 5
SWITCH_PAUSE_S = 1.0
# The served view may be behind the replay for a moment, or for long when it is built itself.
COMPARE_WAIT_S = 30.0
COMPARE_POLL_S = 0.2

Positions = Mapping[TopicPartition, int]
# What is done now, how many events of how many. 0 of 0: a step that counts nothing.
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """`opener` reads data keys from the served vault view."""

    settings: Settings
    clock: Clock
    log: ReadingLog
    log_id: int
    opener: TextOpener
    told: Told


@dataclass(frozen=True, slots=True)
class Wanted:
    """Without `compare` the replay goes to the log's end, and not only to where the served view is.
    `accept`: switch also where the two differ, as after a fault is mended. `events_per_s`, `share`:
    how it is slowed (`Throttle`).
    """

    compare: bool = True
    accept: bool = False
    switch: bool = True
    events_per_s: float = 0
    share: float = 1.0
    differences_max: int = 20


@dataclass(slots=True)
class Replayed:
    """`rate`: events a second, from the log to whole tables, of this run. `tables`: compared."""

    view: str
    events: int = 0
    seconds: float = 0
    dead_count: int = 0
    dead: list[DeadFound] = field(default_factory=list)
    tables: list[TableCompared] = field(default_factory=list)
    switched: bool = False

    @property
    def rate(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def differs(self) -> bool:
        return any(table.different or table.ranges_different for table in self.tables)


async def replay_view(view: View, parts: ReplayParts, wanted: Wanted) -> Replayed:
    """Raises FailedPrecondition while the tables of an earlier switch are kept."""
    parts.told("waiting until no other replay of it runs", 0, 0)
    async with Beside.open(parts.settings, view.schema) as beside:
        await _prepare(view, beside, parts)
        done = Replayed(view.name)
        throttle = Throttle(parts.clock, wanted.events_per_s, wanted.share)
        slowed = replace(parts, settings=_even(parts.settings, throttle))
        until = await _until(view, beside, parts, to_the_end=not wanted.compare)
        begun_s = parts.clock.monotonic_s()
        at, analyzed = await _load(view, beside, slowed, until, throttle, done)
        async with _following(view, beside, slowed, throttle, at) as following:
            done.events += await following.reach(until, "applying")
            parts.told("settling", 0, 0)
            await beside.settle(analyze=not analyzed)
            done.seconds = parts.clock.monotonic_s() - begun_s
            if wanted.compare:
                await _compare(view, parts, following, wanted, done)
            done.dead_count, done.dead = await beside.dead(wanted.differences_max)
        if wanted.switch and (wanted.accept or not done.differs):
            await _switch(view, beside, parts)
            done.switched = True
        return done


def _even(settings: Settings, throttle: Throttle) -> Settings:
    """Batches that are small where it is slow."""
    names = ("replay_batch_events", "project_batch_events")
    return settings.model_copy(
        update={name: throttle.batch(getattr(settings, name)) for name in names}
    )


async def roll_back(view: View, parts: ReplayParts) -> None:
    """What was served before the last switch is served again, as of now; the other is kept."""
    async with Beside.open(parts.settings, view.schema) as beside:
        state = await beside.state()
        if state is None or state.phase != KEPT:
            raise FailedPrecondition(f"no old tables of {view.name} are kept")
        await _switch(view, beside, parts)


async def drop_beside(view: View, parts: ReplayParts) -> str:
    """Old tables, or a replay that was begun: returns its phase, "" where there is nothing."""
    async with Beside.open(parts.settings, view.schema) as beside:
        state = await beside.state()
        if state is None:
            return ""
        await beside.drop()
        return state.phase


async def status_of(view: View, parts: ReplayParts) -> str:
    """One line: what lies beside the served view, and how far it is."""
    found, at = await look_beside(parts.settings, view.schema)
    if found is None:
        return "nothing lies beside what is served"
    end = sum([number for topic in view.topics for number in await parts.log.ends(topic)])
    covered = f"{sum(at.values()):,} of {end:,} events"
    if found.phase == KEPT:
        return f"the old tables are kept since {found.switched}, at {covered}"
    return f"{found.phase} since {found.started}, {covered}"


async def _prepare(view: View, beside: Beside, parts: ReplayParts) -> None:
    state = await beside.state()
    if state is None:
        partitions = {topic: parts.log.partitions_of(topic) for topic in view.topics}
        phase = LOADING if may_be_loaded(view.schema) else FOLLOWING
        await beside.create(partitions, parts.log_id, phase)
    elif state.phase == KEPT:
        raise FailedPrecondition(
            f"the old tables of {view.name} are kept since {state.switched}:"
            f" `millrace replay {view.name} --rollback` serves them again, --drop-old drops them"
        )


async def _until(
    view: View, beside: Beside, parts: ReplayParts, *, to_the_end: bool
) -> dict[TopicPartition, int]:
    """Where to go: not beyond the served view, so that the two can be compared."""
    ends = {
        (topic, partition): end
        for topic in view.topics
        for partition, end in enumerate(await parts.log.ends(topic))
    }
    if to_the_end:
        return ends
    served = await beside.served_positions()
    return {place: min(end, served.get(place, 0)) for place, end in ends.items()}


async def _load(
    view: View,
    beside: Beside,
    parts: ReplayParts,
    until: Positions,
    throttle: Throttle,
    done: Replayed,
) -> tuple[dict[TopicPartition, int], bool]:
    """The fast way, where there is one and it is not done yet. Returns the positions, and whether
    the tables have their statistics.
    """
    state = await beside.state()
    at = await beside.positions()
    if state is None or state.phase in (FOLLOWING, KEPT):
        return at, False
    letters = ReplayLetters(beside, parts.settings)
    passed_over = PassedOver(parts.log, view.name, view.topics)
    await passed_over.refresh()
    async with EdgeLoad.open(beside, sum(until.values())) as load:
        if state.phase == LOADING:
            parts.told("looking at what is there", 0, 0)
            await load.begin()
            loading = Loading(view, parts.log, load, letters, passed_over, parts.settings, at)
            total = sum(until.values())

            async def copied(events: int) -> None:
                done.events += events
                parts.told("copying", sum(loading.at.values()), total)
                await throttle.spent(events)

            await loading.run(until, copied)
            at = loading.at
        if state.phase != REPEATING:
            parts.told("keys and counts", 0, 0)
            await load.make_keys()
        total, repeated = await load.again(), 0
        async with _store(beside, parts) as store:
            async for events in load.repeat(store, parts.settings.project_batch_events):
                repeated += events
                parts.told("applying what came again", repeated, total)
                await throttle.spent(events)
    return at, state.phase != REPEATING


class _Following:
    """Applies events to the tables beside as a projector does, up to positions that are asked."""

    def __init__(
        self,
        view: View,
        beside: Beside,
        parts: ReplayParts,
        projection: Projection,
        reader: ReaderUntil,
        passed_over: PassedOver,
        throttle: Throttle,
    ) -> None:
        self.beside = beside
        self._passed_over = passed_over
        self._view = view
        self._parts = parts
        self._projection = projection
        self._reader = reader
        self._throttle = throttle

    @property
    def at(self) -> dict[TopicPartition, int]:
        return self._projection.at

    def behind(self, served: Positions) -> int:
        """How many events of what is served are not applied here yet."""
        return sum(max(served.get(place, 0) - at, 0) for place, at in self.at.items())

    async def reach(self, until: Positions, doing: str, *, hurry: bool = False) -> int:
        """Exactly to these positions, where they are not passed yet. `hurry`: no throttle."""
        settings, applied = self._parts.settings, 0
        await self._passed_over.refresh()
        self._reader.reach(until)
        total = sum(max(at, until.get(place, 0)) for place, at in self.at.items())
        while left := [place for place, position in until.items() if self.at[place] < position]:
            events = await self._projection.step(
                self._reader,
                events_max=settings.project_batch_events,
                wait_s=settings.project_wait_s,
            )
            applied += events
            self._parts.told(doing, sum(self.at.values()), total)
            if not events:
                await self._pass_what_is_gone(left, until)
            elif not hurry:
                await self._throttle.spent(events)
        return applied

    async def _pass_what_is_gone(self, left: list[TopicPartition], until: Positions) -> None:
        """The last record before a position is not there any more, where a newer of its key is."""
        schema = self._view.schema
        for topic, partition in left:
            place = (topic, partition)
            if TOPICS[topic].compacted and self._reader.passed(place):
                move = Move(topic, partition, self.at[place], until[place])
                await self._projection.store.apply(schema, Batch(schema.view, (move,), []))
                self.at[place] = until[place]


@asynccontextmanager
async def _following(
    view: View, beside: Beside, parts: ReplayParts, throttle: Throttle, at: Positions
) -> AsyncIterator[_Following]:
    passed_over = PassedOver(parts.log, view.name, view.topics)
    async with _store(beside, parts) as store:
        projection = Projection(
            view=without_letters(view, passed_over),
            store=store,
            log=parts.log,
            opener=parts.opener,
            dead=ReplayLetters(beside, parts.settings),
            clock=parts.clock,
        )
        reader = ReaderUntil(parts.log, await projection.start_positions(list(at)))
        try:
            yield _Following(view, beside, parts, projection, reader, passed_over, throttle)
        finally:
            await reader.close()


@asynccontextmanager
async def _store(beside: Beside, parts: ReplayParts) -> AsyncIterator[PostgresStore]:
    """The tables beside, by the statements of the served ones."""
    store = await PostgresStore.open(parts.settings, schema_checked=False, schema=beside.schema)
    try:
        yield store
    finally:
        await store.close()


async def _compare(
    view: View, parts: ReplayParts, following: _Following, wanted: Wanted, done: Replayed
) -> None:
    # At its own pace before the snapshot, which keeps the served tables from being vacuumed.
    near = parts.settings.project_batch_events
    while following.behind(served := await following.beside.served_positions()) > near:
        done.events += await following.reach(served, "applying")
    ends_s = parts.clock.monotonic_s() + COMPARE_WAIT_S
    while True:
        async with Comparison.open(following.beside) as comparison:
            served = comparison.positions
            if all(served.get(place, 0) >= at for place, at in following.at.items()):
                await following.reach(served, "to the position to compare at", hurry=True)
                parts.told("comparing", 0, 0)
                # Where the log is compacted, what has ended may be gone from it.
                ended_too = not any(TOPICS[topic].compacted for topic in view.topics)
                done.tables = [
                    table
                    async for table in comparison.tables(
                        ended_too=ended_too, differences_max=wanted.differences_max
                    )
                ]
                return
        if parts.clock.monotonic_s() > ends_s:
            raise FailedPrecondition(
                f"the served {view.name} is behind its replay and cannot be compared yet:"
                " ask again, or say --no-compare"
            )
        parts.told("waiting for the served view", 0, 0)
        await parts.clock.sleep(COMPARE_POLL_S)


async def _switch(view: View, beside: Beside, parts: ReplayParts) -> None:
    """Near first, at the pace of the log; then exactly, while the projector waits."""
    for attempt in range(1, SWITCHES_MAX + 1):
        # Opened anew: of what a switch that failed had begun nobody knows how far it came.
        no_throttle = Throttle(parts.clock, 0)
        async with _following(
            view, beside, parts, no_throttle, await beside.positions()
        ) as following:

            async def reach(served: Positions, following: _Following = following) -> None:
                await following.reach(served, "switching", hurry=True)

            while True:
                behind = await following.reach(await beside.served_positions(), "catching up")
                if behind <= parts.settings.project_batch_events:
                    break
            try:
                await beside.switch(reach)
                return
            except StoreUnavailable:
                if attempt == SWITCHES_MAX:
                    raise
        parts.told("once more", 0, 0)
        await parts.clock.sleep(SWITCH_PAUSE_S)
