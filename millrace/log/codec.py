"""Bytes of a record ↔ events. One event a record, protobuf."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message

from millrace.errors import PoisonEvent
from millrace.log.port import ORDER_HEADER, TRACE_HEADER, Record
from millrace.log.topics import TOPICS
from social.log.v1 import sealed_pb2


@dataclass(slots=True)
class Event:
    """One event as a projection takes it.

    `message` is the member of the topic's oneof (MediaLiked, …); for topics without a oneof the
    record itself. `number` is the record's own and counts for coverage; `order` decides within
    its row and differs only for a dead letter that is tried again. `text` is the opened
    `sealed` of the message: empty when there is none or when its key was destroyed. A record
    without a value, which ends its key in a compacted topic, has an empty message.
    """

    topic: str
    partition: int
    number: int
    order: int
    key: bytes
    message: Message
    appended_ms: int = 0
    trace: str = ""
    text: bytes = b""


def decode(record: Record) -> Event:
    """Raises PoisonEvent for what no version of the log's vocabulary explains."""
    topic = TOPICS[record.topic]
    if record.value is None and not topic.compacted:
        raise PoisonEvent(f"{record.topic} has a record without a value")
    message = topic.message()
    try:
        message.ParseFromString(record.value or b"")
    except DecodeError as error:
        raise PoisonEvent(f"not a {topic.message.DESCRIPTOR.name}") from error
    if "event" in topic.message.DESCRIPTOR.oneofs_by_name:
        kind = message.WhichOneof("event")
        if kind is None:
            raise PoisonEvent(f"{topic.message.DESCRIPTOR.name} of no known kind")
        message = getattr(message, kind)
    headers = record.headers
    order = int.from_bytes(headers[ORDER_HEADER], "big") if ORDER_HEADER in headers else 0
    if order > record.number:
        raise PoisonEvent("an event cannot be ordered after its own record")
    return Event(
        topic=record.topic,
        partition=record.partition,
        number=record.number,
        order=order or record.number,
        key=record.key,
        message=message,
        appended_ms=record.appended_ms,
        trace=headers[TRACE_HEADER].decode("ascii", "replace") if TRACE_HEADER in headers else "",
    )


def sealed_of(message: Message) -> sealed_pb2.Sealed | None:
    """The sealed text that an event carries, if any."""
    if "sealed" in message.DESCRIPTOR.fields_by_name and message.HasField("sealed"):
        sealed: sealed_pb2.Sealed = message.sealed  # type: ignore[attr-defined]
        return sealed
    return None
