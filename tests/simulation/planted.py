"""Bugs that are planted, to see that the simulation finds them: each replaces one function."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from millrace.log.port import Record
from millrace.stores.changes import Batch
from millrace.stores.feed_port import MinutePosition
from millrace.stores.fold import EdgeFinal
from millrace.stores.memory import MemoryStore, _Edges
from millrace.stores.schema import ViewSchema
from streams import stepping_back
from streams.delivery import Delivery
from streams.planner import Planner
from streams.progress import Progress

_apply = MemoryStore.apply
_deliver = Delivery.deliver


async def moves_blindly(self: MemoryStore, schema: ViewSchema, batch: Batch) -> None:
    """The position is set, whatever it was: a worker that was paused puts it back."""
    stored = self._positions[batch.view]
    for move in batch.moves:
        key = (move.topic, move.partition)
        stored[key] = stored[key]._replace(position=move.start)
    await _apply(self, schema, batch)


def counts_events(self: _Edges, pair: tuple[int, int], final: EdgeFinal) -> None:
    """Counts go by events, not by rows that changed: a second like counts twice."""
    live, number, version, at_ms = self.state.get(pair, (False, 0, 0, 0))
    if number >= final.order:
        return
    if final.live and (not live or final.ended):
        version, at_ms = final.begun, final.begun_at_ms
    self.state[pair] = (final.live, final.order, version, at_ms)
    for ids, other in ((self.targets[pair[0]], pair[1]), (self.sources[pair[1]], pair[0])):
        if final.live:
            insort(ids, other)
        elif other in ids:
            del ids[bisect_left(ids, other)]


def older_wins(self: _Edges, pair: tuple[int, int], final: EdgeFinal) -> None:
    """An older event writes over a newer row: a dead letter that is tried again revives an edge
    that has ended since.
    """
    live, _, version, at_ms = self.state.get(pair, (False, 0, 0, 0))
    self.state[pair] = (live, 0, version, at_ms)
    _edge_apply(self, pair, final)


_edge_apply = _Edges.apply


async def moves_before_rows(self: Delivery, records: Sequence[Record]) -> None:
    """Delivery's position moves before the rows are acknowledged: a crash in between loses them."""
    new = self._new(records)
    rows = [row for record in new for row in await self._rows(record)]
    for record in new:
        if held := self._held.get((record.topic, record.partition)):
            held.at = max(held.at, record.number)
    await self._until_done(rows)


def waits_for_no_view(_self: Planner, _numbers: Sequence[int], _needed: Mapping[int, int]) -> bool:
    """The planner does not wait until the views have what it plans with."""
    return True


def steps_back_too_little(minute: int, history: Sequence[MinutePosition]) -> int:
    """Delivery steps back to the last minute only: what was delivered just before it is lost."""
    return history[0].number


async def believes_itself(self: Progress) -> bool:
    """A projector compares a view with what it published itself, not with what others did."""
    return await self.look()


BUGS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "moves_blindly": (MemoryStore, "apply", moves_blindly),
    "counts_events": (_Edges, "apply", counts_events),
    "older_wins": (_Edges, "apply", older_wins),
    "moves_before_rows": (Delivery, "deliver", moves_before_rows),
    "waits_for_no_view": (Planner, "_covers", waits_for_no_view),
    "steps_back_too_little": (stepping_back, "_before", steps_back_too_little),
    "believes_itself": (Progress, "look_afresh", believes_itself),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    owner, attribute, bug = BUGS[name]
    with patch.object(owner, attribute, bug):
        yield
