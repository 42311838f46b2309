"""The name of one event for people: `topic/partition/number`, such as `media/3/17`.

The number is the one that positions, tokens and logs speak of (offset + 1 in generation 0).
"""

from typing import NamedTuple

from millrace.errors import InvalidRequest
from millrace.log.port import Record
from millrace.log.topics import TOPICS

_FORM = "topic/partition/number, such as media/3/17"


class EventId(NamedTuple):
    topic: str
    partition: int
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.number}"


def event_id(text: str, log_partitions: int) -> EventId:
    """Raises InvalidRequest for what no log with so many partitions can hold."""
    topic, *rest = text.strip().split("/")
    if len(rest) != 2 or not all(part.isascii() and part.isdigit() for part in rest):
        raise InvalidRequest(f"{text!r} is no event id: {_FORM}")
    if topic not in TOPICS:
        raise InvalidRequest(f"no topic {topic!r}: there are {', '.join(TOPICS)}")
    found = EventId(topic, int(rest[0]), int(rest[1]))
    partitions = TOPICS[topic].partitions(log_partitions)
    if found.partition >= partitions:
        raise InvalidRequest(f"{topic} has no partition {found.partition}: {partitions} in all")
    if not 0 < found.number < 1 << 63:
        raise InvalidRequest(f"no event has number {found.number}: the first one is 1")
    return found


def id_of(record: Record) -> EventId:
    return EventId(record.topic, record.partition, record.number)
