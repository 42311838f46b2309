"""The feed store in memory: for the simulator and property tests only."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from millrace.errors import StoreUnavailable, TablesGone
from millrace.stores.feed_port import (
    FIRST_TABLE,
    FeedRow,
    FeedStatics,
    FeedTables,
    MinutePosition,
    NodeSeen,
    TopicPartition,
    begun_after,
    tables_changed,
)

_NODE = "memory"


class _Rows:
    """One table."""

    def __init__(self) -> None:
        self.authors: dict[tuple[int, int], int] = {}
        self.media: defaultdict[int, list[int]] = defaultdict(list)

    def add(self, row: FeedRow) -> bool:
        """Whether it is new."""
        user_id, media_id, author_id = row
        new = (user_id, media_id) not in self.authors
        if new:
            insort(self.media[user_id], media_id)
        self.authors[user_id, media_id] = author_id
        return new

    def forget(self, key: tuple[int, int]) -> None:
        user_id, media_id = key
        if self.authors.pop(key, None) is not None:
            media = self.media[user_id]
            del media[bisect_left(media, media_id)]


class MemoryFeedStore:
    """Implements `FeedStore` with one node, which can be made to fail as a real one does."""

    def __init__(self) -> None:
        self._tables = FeedTables(FIRST_TABLE, "", "", 0, 1)
        self._rows: dict[str, _Rows] = {FIRST_TABLE: _Rows()}
        self._positions: dict[tuple[str, str, int], int] = {}
        self._minutes: defaultdict[tuple[str, str, int], dict[int, MinutePosition]] = defaultdict(
            dict
        )
        self._generation = 1
        self._heartbeat = 0
        self._unsynced: list[tuple[str, tuple[int, int]]] = []
        self._log_id: int | None = None
        self.up = True

    def crash(self, forgotten_rows_max: int) -> None:
        """The node is killed and returns: the last rows it acknowledged since `sync` are gone,
        positions are not (the worst case), and its generation is a new one.
        """
        kept = max(len(self._unsynced) - forgotten_rows_max, 0)
        for table, key in self._unsynced[kept:]:
            if table in self._rows:
                self._rows[table].forget(key)
        self._unsynced.clear()
        self._generation += 1

    def sync(self) -> None:
        """What is written now survives a crash."""
        self._unsynced.clear()

    async def write(self, rows: Sequence[FeedRow]) -> None:
        self._answers()
        for table in filter(None, (self._tables.current, self._tables.beside)):
            await self.write_to(table, rows)

    async def write_to(self, table: str, rows: Sequence[FeedRow]) -> None:
        self._answers()
        there = self._table(table)
        for row in rows:
            if there.add(row):
                self._unsynced.append((table, (row.user_id, row.media_id)))

    async def page(
        self, user_id: int, *, before: int | None = None, limit: int
    ) -> list[tuple[int, int]]:
        self._answers()
        rows = self._table(self._tables.current)
        media = rows.media[user_id]
        end = len(media) if before is None else bisect_left(media, before)
        newest = media[max(end - limit, 0) : end]
        return [(media_id, rows.authors[user_id, media_id]) for media_id in reversed(newest)]

    async def statics(self, user_id: int) -> FeedStatics:
        self._answers()
        return FeedStatics()

    async def has_many(
        self, pairs: Sequence[tuple[int, int]], *, table: str = ""
    ) -> set[tuple[int, int]]:
        self._answers()
        there = self._table(table or self._tables.current).authors
        return {pair for pair in pairs if pair in there}

    async def scan(self) -> AsyncIterator[FeedRow]:
        self._answers()
        rows = self._table(self._tables.current)
        for (user_id, media_id), author_id in list(rows.authors.items()):
            yield FeedRow(user_id, media_id, author_id)

    async def tables(self) -> FeedTables:
        self._answers()
        return self._tables

    async def begin_table(self, now: FeedTables) -> FeedTables:
        begun = begun_after(now)
        self._rows.setdefault(begun.beside, _Rows())
        await self.change_tables(now, begun)
        return begun

    async def change_tables(self, now: FeedTables, wanted: FeedTables) -> None:
        self._answers()
        if self._tables != now:
            raise tables_changed()
        self._tables = wanted

    async def drop_table(self, table: str) -> None:
        self._answers()
        self._rows.pop(table, None)

    def _table(self, name: str) -> _Rows:
        if name not in self._rows:
            raise TablesGone(f"the feed store has no table {name}")
        return self._rows[name]

    @property
    def generation(self) -> int:
        """Of the node: one more after each crash."""
        return self._generation

    async def generations(self) -> dict[str, NodeSeen]:
        self._answers()
        self._heartbeat += 1
        return {_NODE: NodeSeen(self._generation, self._heartbeat)}

    async def save_position(
        self,
        name: str,
        topic: str,
        partition: int,
        number: int,
        minute: int,
        generations: Mapping[str, int],
    ) -> None:
        self._answers()
        key = (name, topic, partition)
        self._positions[key] = number
        minutes = self._minutes[key]
        lowest = min(number, minutes[minute].number) if minute in minutes else number
        minutes[minute] = MinutePosition(minute, lowest, dict(generations))

    async def positions(
        self, name: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        self._answers()
        return {
            (topic, partition): self._positions[name, topic, partition]
            for topic, partition in partitions
            if (name, topic, partition) in self._positions
        }

    async def history(self, name: str, topic: str, partition: int) -> list[MinutePosition]:
        self._answers()
        minutes = self._minutes[name, topic, partition]
        return [minutes[minute] for minute in sorted(minutes, reverse=True)]

    async def log_id(self, mine: int) -> int:
        self._answers()
        self._log_id = mine if self._log_id is None else self._log_id
        return self._log_id

    async def close(self) -> None:
        return None

    def _answers(self) -> None:
        if not self.up:
            raise StoreUnavailable("the feed store is down")
