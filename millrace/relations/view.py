"""A view: what it reads, what it keeps, and the pure function between the two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millrace.log.codec import Event
from millrace.relations.edge import Edge, Timeline
from millrace.relations.entity import Entity
from millrace.relations.plain import PlainEdges, PlainProjection
from millrace.stores.changes import Change
from millrace.stores.schema import ViewSchema

Project = Callable[[Event], Sequence[Change]]


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


def plain_view(edge: Edge, *, topic: str, begins: str, ends: str) -> View:
    """The view of an edge whose pairs begin and end by one kind of event each, as `PlainEdges`
    says. Raises Bug where the topic has no such events.
    """
    plain = PlainEdges(edge, begins, ends)
    project = PlainProjection(plain, topic)
    return View(edge.name, (topic,), project, edges=(edge,), plain=plain)
