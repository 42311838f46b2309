"""The feed store in memory: for the simulator and property tests only."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from millrace.errors import StoreUnavailable
from millrace.stores.feed_port import (
    FeedRow,
    FeedStatics,
    MinutePosition,
    NodeSeen,
    TopicPartition,
)

_NODE = "memory"


class MemoryFeedStore:
    """Implements `FeedStore` with one node, which can be made to fail as a real one does."""

    def __init__(self) -> None:
        self._authors: dict[tuple[int, int], int] = {}
        self._media: defaultdict[int, list[int]] = defaultdict(list)
        self._positions: dict[tuple[str, str, int], int] = {}
        self._minutes: defaultdict[tuple[str, str, int], dict[int, MinutePosition]] = defaultdict(
            dict
        )
        self._generation = 1
        self._heartbeat = 0
        self._unsynced: list[tuple[int, int]] = []
        self._log_id: int | None = None
        self.up = True

    def crash(self, forgotten_rows_max: int) -> None:
        """The node is killed and returns: the last rows it acknowledged since `sync` are gone,
        positions are not (the worst case), and its generation is a new one.
        """
        kept = max(len(self._unsynced) - forgotten_rows_max, 0)
        for key in self._unsynced[kept:]:
            user_id, media_id = key
            if self._authors.pop(key, None) is not None:
                media = self._media[user_id]
                del media[bisect_left(media, media_id)]
        self._unsynced.clear()
        self._generation += 1

    def sync(self) -> None:
        """What is written now survives a crash."""
        self._unsynced.clear()

    async def write(self, rows: Sequence[FeedRow]) -> None:
        self._answers()
        for user_id, media_id, author_id in rows:
            key = (user_id, media_id)
            if key not in self._authors:
                insort(self._media[user_id], media_id)
                self._unsynced.append(key)
            self._authors[key] = author_id

    async def page(
        self, user_id: int, *, before: int | None = None, limit: int
    ) -> list[tuple[int, int]]:
        self._answers()
        media = self._media[user_id]
        end = len(media) if before is None else bisect_left(media, before)
        newest = media[max(end - limit, 0) : end]
        return [(media_id, self._authors[user_id, media_id]) for media_id in reversed(newest)]

    async def statics(self, user_id: int) -> FeedStatics:
        self._answers()
        return FeedStatics()

    async def has_many(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        self._answers()
        return {pair for pair in pairs if pair in self._authors}

    async def scan(self) -> AsyncIterator[FeedRow]:
        self._answers()
        for (user_id, media_id), author_id in list(self._authors.items()):
            yield FeedRow(user_id, media_id, author_id)

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
