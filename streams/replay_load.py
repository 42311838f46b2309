"""The fast way of a replay, for views that are edges alone: from the log into tables without keys.

The next events are read and projected while the last ones are copied. What an event means is said
by the view's `project`, as always (`streams.plain_edges` repeats it for many plain ones at once);
which rows follow from it by `millrace.stores.postgres_load`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from millrace.errors import Bug, MillraceError, PoisonEvent
from millrace.log.codec import decode
from millrace.log.letters import PassedOver
from millrace.log.port import ReadingLog, Record, TopicPartition
from millrace.observe import logs
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Change, EdgeChange
from millrace.stores.edge_columns import EdgeColumns
from millrace.stores.postgres_beside import DeadFound
from millrace.stores.postgres_load import EdgeLoad
from millrace.stores.values import check_edges
from streams.plain_edges import columns_of
from streams.replay_letters import ReplayLetters, without_letters
from streams.replay_reader import ReaderUntil

logger = logs.logger("streams.replay_load")

# Whoever projects lets the copy's answers through after so many events.
EVENTS_A_TURN = 1_000
READ_RECORDS_MAX = 4_000
READ_WAIT_S = 0.2

Done = Callable[[int], Awaitable[None]]


class Loading:
    """One view, from its stored positions `at` to those asked for."""

    def __init__(
        self,
        view: View,
        log: ReadingLog,
        load: EdgeLoad,
        letters: ReplayLetters,
        passed_over: PassedOver,
        settings: Settings,
        at: Mapping[TopicPartition, int],
    ) -> None:
        self.at = dict(at)
        self._view = view
        self._passed_over = passed_over
        self._project = without_letters(view, passed_over).project
        self._log = log
        self._load = load
        self._letters = letters
        self._events = settings.replay_batch_events

    async def run(self, until: Mapping[TopicPartition, int], done: Done) -> None:
        """`done` is told how many events were taken, and may make it wait."""
        reader = ReaderUntil(self._log, self.at)
        reader.reach(until)
        copying: asyncio.Task[None] | None = None
        try:
            while records := await self._records(reader, until):
                changed, dead = await self._projected(records)
                if copying is not None:
                    await copying
                    copying = None
                # Before the next copy begins: nothing goes on while it makes us wait.
                await done(len(records))
                positions = dict(self.at)
                copying = asyncio.create_task(self._load.put(changed, positions, dead))
            if copying is not None:
                await copying
        except BaseException:
            if copying is not None:
                copying.cancel()
                await asyncio.gather(copying, return_exceptions=True)
            raise
        finally:
            await reader.close()

    async def _records(
        self, reader: ReaderUntil, until: Mapping[TopicPartition, int]
    ) -> list[Record]:
        """A copy's fill, or the last ones; none when all is read."""
        records: list[Record] = []
        while len(records) < self._events and any(
            self.at[place] < position for place, position in until.items()
        ):
            some = await reader.batch(
                min(READ_RECORDS_MAX, self._events - len(records)), READ_WAIT_S
            )
            records += some
            self.at.update(reader.given)
        return records

    async def _projected(
        self, records: Sequence[Record]
    ) -> tuple[dict[str, EdgeColumns], list[DeadFound]]:
        parts: dict[str, list[EdgeColumns]] = {}
        dead: list[DeadFound] = []
        for start in range(0, len(records), EVENTS_A_TURN):
            some = records[start : start + EVENTS_A_TURN]
            for name, columns in (self._at_once(some) or self._one_by_one(some, dead)).items():
                parts.setdefault(name, []).append(columns)
            await asyncio.sleep(0)
        self._letters.count(len(records))
        return {name: EdgeColumns.joined(one) for name, one in parts.items()}, dead

    def _at_once(self, records: Sequence[Record]) -> dict[str, EdgeColumns] | None:
        plain, passed_over = self._view.plain, self._passed_over
        if plain is None or (passed_over and any(one[:3] in passed_over for one in records)):
            return None
        columns = columns_of(plain, self._view.topics[0], records)
        return None if columns is None else {plain.edge.name: columns}

    def _one_by_one(
        self, records: Sequence[Record], dead: list[DeadFound]
    ) -> dict[str, EdgeColumns]:
        changes: list[Change] = []
        for record in records:
            try:
                projected = self._project(decode(record))
                check_edges(projected)
                changes += projected
            except PoisonEvent as error:
                dead.append(self._letters.noted(record, error.message))
            except MillraceError:
                # Of a kind that only a newer version knows: it stops the replay.
                raise
            except Exception:
                # As in a projection: what fails on an event fails on it for ever.
                logger.exception("project failed", number=record.number)
                dead.append(self._letters.noted(record, "project failed"))
        return _columns(changes)


def _columns(changes: Sequence[Change]) -> dict[str, EdgeColumns]:
    by_table: dict[str, list[EdgeChange]] = {}
    for change in changes:
        if not isinstance(change, EdgeChange):
            raise Bug("a view that has rows cannot be loaded as edges")
        by_table.setdefault(change[0], []).append(change)
    return {name: EdgeColumns.of(some) for name, some in by_table.items()}
