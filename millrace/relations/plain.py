"""Views of nothing but one edge: two kinds of event, one begins a pair and one ends it.

That is all there is to say about them, so nobody writes their `project`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from millrace.errors import Bug, PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.log.topics import TOPICS
from millrace.relations.edge import Edge
from millrace.stores.changes import Change, EdgeChange


@dataclass(frozen=True, slots=True)
class PlainEdges:
    """How the events of a view look of which each begins or ends one pair of `edge`, so that a
    replay may read many at once (`streams.plain_edges`).

    `begins` and `ends`: two kinds of the topic's oneof `event`, with fields called as the edge's
    two sides and `at_ms`; the key is the owner's. Says nothing about events that are wrong in any
    way: what they mean only `project` tells.
    """

    edge: Edge
    begins: str
    ends: str


class PlainProjection:
    """The `project` of a plain view. Raises Bug for a topic whose events have no such kinds or
    fields; what it is called with raises PoisonEvent where it makes no sense.
    """

    def __init__(self, plain: PlainEdges, topic: str) -> None:
        edge = plain.edge
        names = (edge.source, edge.target, "at_ms")
        described = TOPICS[topic].message.DESCRIPTOR
        kinds = {kind: _kind(described, kind, names) for kind in (plain.begins, plain.ends)}
        if len(kinds) != 2:
            raise Bug(f"{edge.name} begins and ends by the same kind of event")
        self._edge = edge.name
        self._lives = {GetMessageClass(kinds[plain.begins]): True}
        self._lives[GetMessageClass(kinds[plain.ends])] = False
        self._fields = attrgetter(*names)
        self._owned_by_target = edge.owner == "target"

    def __call__(self, event: Event) -> Sequence[Change]:
        message = event.message
        live = self._lives.get(type(message))
        if live is None:
            raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to {self._edge}")
        source, target, at_ms = self._fields(message)
        if source <= 0 or target <= 0:
            raise PoisonEvent(f"a pair of {self._edge} needs two ids")
        if event.key != key_of(target if self._owned_by_target else source):
            raise PoisonEvent("the record's key is not the event's owner")
        return [EdgeChange(self._edge, source, target, live, event.number, event.order, at_ms)]


def _kind(described: Any, kind: str, names: Sequence[str]) -> Any:
    """The descriptor of what the kind holds. (The types of descriptors have two roots in stubs.)"""
    oneof = described.oneofs_by_name.get("event")
    fields = {field.name: field for field in oneof.fields} if oneof else {}
    if kind not in fields:
        raise Bug(f"{described.name} has no kind of event called {kind}")
    message = fields[kind].message_type
    for name in names:
        found = message.fields_by_name.get(name)
        if found is None or found.cpp_type != FieldDescriptor.CPPTYPE_INT64:
            raise Bug(f"{message.name} needs an int64 called {name}")
    return message
