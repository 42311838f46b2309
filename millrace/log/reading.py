"""What is in the log at this moment: one record, or all of some partitions up to their ends.

For commands and checks. Processors follow the log with a reader of their own.
"""

from collections.abc import AsyncIterator, Mapping

from millrace.errors import NotFound, PositionBehind, StoreUnavailable
from millrace.log.event_id import EventId
from millrace.log.port import LogReader, ReadingLog, Record, TopicPartition
from millrace.log.topics import TOPICS

READ_RECORDS_MAX = 2_000
READ_WAIT_S = 0.5
SILENT_BATCHES_MAX = 20


async def record_at(log: ReadingLog, event: EventId) -> Record:
    """One record. Raises NotFound where the log does not reach so far, or keeps it no longer."""
    end = (await log.ends(event.topic))[event.partition]
    if event.number > end:
        raise NotFound(f"no event {event}: {event.topic}/{event.partition} ends at {end}")
    found = await _after(log, (event.topic, event.partition), event.number - 1)
    if found is not None and found.number == event.number:
        return found
    compacted = TOPICS[event.topic].compacted
    why = "has given way to a newer one of its key" if compacted else "is kept no longer"
    raise NotFound(f"event {event} {why}")


async def records_after(
    log: ReadingLog, positions: Mapping[TopicPartition, int]
) -> AsyncIterator[Record]:
    """What follows each position, up to the ends that the log has when this begins.

    Raises StoreUnavailable when the log stops answering before them.
    """
    ends: dict[TopicPartition, int] = {}
    for topic in dict.fromkeys(topic for topic, _ in positions):
        for partition, end in enumerate(await log.ends(topic)):
            if (topic, partition) in positions and end > positions[topic, partition]:
                ends[topic, partition] = end
    if not ends:
        return
    reader = log.reader({place: positions[place] for place in ends})
    partitions = len(ends)
    try:
        while ends and (records := await _batch(reader, READ_RECORDS_MAX, partitions)):
            for record in records:
                place = (record.topic, record.partition)
                if record.number <= ends.get(place, 0):
                    yield record
                if record.number >= ends.get(place, 0):
                    ends.pop(place, None)
    finally:
        await reader.close()


async def position_before(log: ReadingLog, place: TopicPartition, at_ms: int) -> int:
    """A position after which everything is that was appended since, found by halving."""
    low, high = 0, (await log.ends(place[0]))[place[1]]
    while low < high:
        middle = (low + high) // 2
        found = await _after(log, place, middle)
        if found is None:
            low = middle + 1
        elif found.appended_ms < at_ms:
            low = found.number
        else:
            high = middle
    return low


async def _after(log: ReadingLog, place: TopicPartition, position: int) -> Record | None:
    """The next record; None where what follows is kept no longer."""
    reader = log.reader({place: position})
    try:
        records = await _batch(reader, 1, partitions=1)
    except PositionBehind:
        return None
    finally:
        await reader.close()
    return records[0] if records else None


async def _batch(reader: LogReader, records_max: int, partitions: int) -> list[Record]:
    """Empty where nothing is left: the log's end may be a record that is kept no longer."""
    for _ in range(SILENT_BATCHES_MAX):
        records = await reader.batch(records_max, READ_WAIT_S)
        lag = reader.lag()
        if records or (len(lag) == partitions and not any(lag.values())):
            return records
    raise StoreUnavailable("the log has stopped answering")
