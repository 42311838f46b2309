"""A view: what it reads, what it keeps, and the pure function between the two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millrace.log.codec import Event
from millrace.relations.edge import Edge, Timeline
from millrace.relations.entity import Entity
from millrace.stores.changes import Change
from millrace.stores.schema import ViewSchema

Project = Callable[[Event], Sequence[Change]]


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


@dataclass(frozen=True, slots=True)
class View:
    """Live processing, replay and simulation call the same `project`.

    Raises PoisonEvent for an event that makes no sense; anything else it raises is poison too.
    `plain`: where the view has one topic and nothing but one edge, what `project` does to events
    that are as they should be. A test holds the two together.
    """

    name: str
    topics: tuple[str, ...]
    project: Project
    entities: tuple[Entity, ...] = ()
    edges: tuple[Edge | Timeline, ...] = ()
    plain: PlainEdges | None = None

    @property
    def schema(self) -> ViewSchema:
        return ViewSchema(
            self.name,
            self.topics,
            tuple(entity.table for entity in self.entities),
            tuple(edge.table for edge in self.edges),
        )
