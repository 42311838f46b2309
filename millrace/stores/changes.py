"""What an event does to rows and edges. A projection returns these; stores apply them.

In each, `number` is the event's own (edge versions and coverage go by it), `order` decides
which of two changes of one row is the later: an older one changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

Scalar = int | bool | str | bytes
Key = tuple[Scalar, ...]


class EdgeChange(NamedTuple):
    """(source, target) of edge table `table` begins (`live`) or ends."""

    table: str
    source: int
    target: int
    live: bool
    number: int
    order: int
    at_ms: int


class Claim(NamedTuple):
    """The request that creates a row: `body` tells a retry from another request."""

    actor_id: int
    request_id: bytes
    body: bytes


class RowCreate(NamedTuple):
    """A new row, if its key is free and the claim is the actor's first; else nothing at all.

    `then` happens only if the row is created.
    """

    table: str
    key: Key
    values: Mapping[str, Scalar]
    number: int
    order: int
    at_ms: int
    claim: Claim | None = None
    then: tuple[EdgeChange, ...] = ()


class RowUpdate(NamedTuple):
    """New values of some columns of a row that stands. `guard`: columns that must be as given."""

    table: str
    key: Key
    values: Mapping[str, Scalar]
    number: int
    order: int
    guard: Mapping[str, Scalar]


class RowPut(NamedTuple):
    """A full row, whatever was there: the last one counts. An ended row stays ended, except
    where the table is reusable.
    """

    table: str
    key: Key
    values: Mapping[str, Scalar]
    number: int
    order: int


class RowEnd(NamedTuple):
    """The row ends. Final, except where the table is reusable.

    A final end that is tried again as a dead letter wins over updates of any number, since
    nothing else can follow it. `then` happens only if a row stood and `guard` holds.
    """

    table: str
    key: Key
    number: int
    order: int
    guard: Mapping[str, Scalar]
    then: tuple[EdgeChange, ...] = ()


RowChange = RowCreate | RowUpdate | RowPut | RowEnd
Change = EdgeChange | RowChange


class Move(NamedTuple):
    """The position of (topic, partition) goes from exactly `start` to `end`."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(slots=True)
class Batch:
    """Changes of one view, in log order within each partition, and the positions they move."""

    view: str
    moves: tuple[Move, ...]
    changes: list[Change]
