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
class View:
    """Live processing, replay and simulation call the same `project`.

    Raises PoisonEvent for an event that makes no sense; anything else it raises is poison too.
    """

    name: str
    topics: tuple[str, ...]
    project: Project
    entities: tuple[Entity, ...] = ()
    edges: tuple[Edge | Timeline, ...] = ()

    @property
    def schema(self) -> ViewSchema:
        return ViewSchema(
            self.name,
            self.topics,
            tuple(entity.table for entity in self.entities),
            tuple(edge.table for edge in self.edges),
        )
