"""Partitions in any order give one end state, since each row is written by one partition alone.

Ana and Ben follow and unfollow, Cem blocks Ana. The block ends her edge to him: by an event in
her own partition, or, in the broken variant, by Cem's. Whoever reads partitions may read again
what it has read. Numbers are those of a partition and say nothing between two.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from tests.model.explore import explore


class Change(NamedTuple):
    """(follower, followee) begins or ends."""

    edge: str
    live: bool


class Edge(NamedTuple):
    live: bool
    number: int


Log = tuple[tuple[Change, ...], ...]

ANA = (Change("ana>cem", True), Change("ana>ben", True))
BEN = (Change("ben>cem", True), Change("ben>cem", False), Change("ben>cem", True))
BLOCK = Change("ana>cem", False)
BY_OWNER: Log = ((*ANA, BLOCK), BEN, ())
BY_ACTOR: Log = (ANA, BEN, (BLOCK,))
REPEATS_MAX = 3


@dataclass(frozen=True)
class State:
    """`read`: up to here in each partition. `count`: followers of cem, kept by what changes."""

    read: tuple[int, ...] = (0, 0, 0)
    edges: tuple[tuple[str, Edge], ...] = ()
    count: int = 0
    repeats: int = 0

    def apply(self, change: Change, number: int) -> "State":
        edges = dict(self.edges)
        before = edges.get(change.edge, Edge(live=False, number=0))
        if number <= before.number:
            return self
        edges[change.edge] = Edge(change.live, number)
        counted = (change.live - before.live) if change.edge.endswith(">cem") else 0
        return replace(self, edges=tuple(sorted(edges.items())), count=self.count + counted)


def successors(log: Log, state: State) -> Iterator[tuple[str, State]]:
    for partition, events in enumerate(log):
        read = state.read[partition]
        moved = (*state.read[:partition], read + 1, *state.read[partition + 1 :])
        if read < len(events):
            change = events[read]
            words = f"{partition}/{read + 1}: {change.edge} {'begins' if change.live else 'ends'}"
            yield words, replace(state.apply(change, read + 1), read=moved)
        if read and state.repeats < REPEATS_MAX:
            again = replace(state, repeats=state.repeats + 1)
            for number in range(1, read + 1):
                yield f"{partition}/{number} again", again.apply(events[number - 1], number)


def one_after_the_other(log: Log) -> State:
    state = State()
    for events in log:
        for number, change in enumerate(events, 1):
            state = state.apply(change, number)
    return state


def shuffled(log: Log) -> tuple[int, tuple[str, ...]]:
    wanted = one_after_the_other(log)

    def wrong(state: State, ended: bool) -> str:
        everything = state.read == tuple(len(events) for events in log)
        if everything and (state.edges, state.count) != (wanted.edges, wanted.count):
            return f"another end: {state.edges}, {state.count} follow cem; wanted {wanted.edges}"
        return ""

    found = explore(State(), lambda state: successors(log, state), wrong)
    print(found)
    return found.states, found.path


def test_one_owner_a_row_gives_one_end() -> None:
    _, path = shuffled(BY_OWNER)
    assert not path


def test_a_second_writer_of_a_row_is_found() -> None:
    _, path = shuffled(BY_ACTOR)
    assert path[-1].startswith("another end")
    assert any("ana>cem ends" in words for words in path)
