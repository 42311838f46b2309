"""A reader that stops at given positions: a replay that is compared must stand where the other is.

Not: which positions these are (`streams.replay`).
"""

from collections.abc import Mapping

from millrace.log.port import LogReader, ReadingLog, Record, TopicPartition


class ReaderUntil:
    """Implements `LogReader`: nothing after `until`, which only rises, is ever given out.

    What lies behind it is dropped and read again later, so that nothing is held. `given`: the last
    number that was given out, by partition.
    """

    def __init__(self, log: ReadingLog, positions: Mapping[TopicPartition, int]) -> None:
        self.until: dict[TopicPartition, int] = dict(positions)
        self._reader: LogReader = log.reader(positions)
        self.given: dict[TopicPartition, int] = dict(positions)
        self._dropped: set[TopicPartition] = set()

    def reach(self, until: Mapping[TopicPartition, int]) -> None:
        """From now on up to these positions."""
        for place, position in until.items():
            if place not in self.until or position <= self.until[place]:
                continue
            self.until[place] = position
            if place in self._dropped:
                self._dropped.discard(place)
                self._reader.seek(*place, self.given[place])

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        taken, until, given = [], self.until, self.given
        for record in await self._reader.batch(records_max, wait_s):
            place = (record.topic, record.partition)
            if record.number > until[place]:
                self._dropped.add(place)
            else:
                taken.append(record)
                given[place] = record.number
        return taken

    def seek(self, topic: str, partition: int, position: int) -> None:
        self.given[topic, partition] = position
        self._dropped.discard((topic, partition))
        self._reader.seek(topic, partition, position)

    def lag(self) -> dict[TopicPartition, int]:
        """Records up to `until`, as far as numbers tell."""
        return {place: max(self.until[place] - at, 0) for place, at in self.given.items()}

    def passed(self, place: TopicPartition) -> bool:
        """Whether nothing is left before `until`, though its last record was never seen: of a
        compacted topic it may be gone.
        """
        return place in self._dropped or self._reader.lag().get(place, 1) == 0

    async def close(self) -> None:
        await self._reader.close()
