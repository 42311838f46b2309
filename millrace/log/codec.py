"""Bytes of a record ↔ events. One event a record, protobuf."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from millrace.errors import NewerEvent, PoisonEvent
from millrace.log.port import ORDER_HEADER, TRACE_HEADER, Record
from millrace.log.topics import TOPICS
from social.log.v1 import sealed_pb2

_WIRE_MESSAGE = 2
# Beyond that it is rather garbage.
_NEWER_KINDS_MAX = 100


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
    """Raises PoisonEvent for what no version of the log's vocabulary explains, NewerEvent for what
    a newer version than this one seems to.
    """
    words = _words(record.topic)
    value = record.value
    if value is None:
        if not words.compacted:
            raise PoisonEvent(f"{record.topic} has a record without a value")
        value = b""
    try:
        message = words.parse(value)
    except DecodeError as error:
        raise PoisonEvent(f"not a {words.name}") from error
    if words.of_kinds:
        kind = message.WhichOneof("event")
        if kind is None:
            if _is_of_newer_kind(message):
                raise NewerEvent(
                    f"{record.topic}/{record.partition}: event {record.number} is of a kind that "
                    "only a newer version knows: deploy that to the processors"
                )
            raise PoisonEvent(f"{words.name} of no known kind")
        message = getattr(message, kind)
    order, trace = record.number, ""
    if headers := record.headers:
        if ORDER_HEADER in headers:
            order = int.from_bytes(headers[ORDER_HEADER], "big") or record.number
        if order > record.number:
            raise PoisonEvent("an event cannot be ordered after its own record")
        if TRACE_HEADER in headers:
            trace = headers[TRACE_HEADER].decode("ascii", "replace")
    return Event(
        record.topic,
        record.partition,
        record.number,
        order,
        record.key,
        message,
        record.appended_ms,
        trace,
    )


def sealed_of(message: Message) -> sealed_pb2.Sealed | None:
    """The sealed text that an event carries, if any."""
    if _may_be_sealed(message.DESCRIPTOR) and message.HasField("sealed"):
        sealed: sealed_pb2.Sealed = message.sealed  # type: ignore[attr-defined]
        return sealed
    return None


def _is_of_newer_kind(message: Message) -> bool:
    """New kinds get the numbers after those that are known."""
    known = max(field.number for field in message.DESCRIPTOR.oneofs_by_name["event"].fields)
    unknown = UnknownFieldSet(message)
    fields = (unknown[index] for index in range(len(unknown)))
    return any(
        field.wire_type == _WIRE_MESSAGE and known < field.field_number <= known + _NEWER_KINDS_MAX
        for field in fields
    )


class _Words(NamedTuple):
    """A topic as `decode` needs it. `of_kinds`: its record is a oneof named event."""

    name: str
    parse: Callable[[bytes], Message]
    of_kinds: bool
    compacted: bool


# Descriptors are dear to ask, as dear as to read an event: so they are asked once.
@cache
def _words(topic: str) -> _Words:
    declared = TOPICS[topic]
    described = declared.message.DESCRIPTOR
    return _Words(
        described.name,
        declared.message.FromString,
        "event" in described.oneofs_by_name,
        declared.compacted,
    )


@cache
def _may_be_sealed(described: Descriptor) -> bool:
    return "sealed" in described.fields_by_name
