"""Positions that move by compare-and-set, in one transaction with what was applied: two workers
share a partition, each believes that it is his, and each may be paused or die between any steps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.model.explore import explore

EVENTS = 3
BATCH_MAX = 2
DEATHS_MAX = 2


@dataclass(frozen=True)
class Worker:
    """`at`: where he believes the view is. `batch`: read up to here; 0 is none."""

    at: int = 0
    batch: int = 0
    half_done: bool = False


@dataclass(frozen=True)
class State:
    """`applied`: how often each event was."""

    position: int = 0
    applied: tuple[int, ...] = (0,) * EVENTS
    workers: tuple[Worker, ...] = (Worker(), Worker())
    deaths: int = 0

    def of(self, which: int, worker: Worker) -> "State":
        workers = (*self.workers[:which], worker, *self.workers[which + 1 :])
        return replace(self, workers=workers)

    def take(self, start: int, end: int) -> "State":
        counts = tuple(n + (start <= i < end) for i, n in enumerate(self.applied))
        return replace(self, applied=counts)


Apply = Callable[[State, int, Worker], State]


def compare_and_set(state: State, which: int, worker: Worker) -> State:
    if state.position != worker.at:
        return state.of(which, Worker(at=state.position))
    moved = replace(state.take(worker.at, worker.batch), position=worker.batch)
    return moved.of(which, Worker(at=worker.batch))


def set_only(state: State, which: int, worker: Worker) -> State:
    moved = replace(state.take(worker.at, worker.batch), position=worker.batch)
    return moved.of(which, Worker(at=worker.batch))


def rows_then_position(state: State, which: int, worker: Worker) -> State:
    if not worker.half_done:
        if state.position != worker.at:
            return state.of(which, Worker(at=state.position))
        return state.take(worker.at, worker.batch).of(which, replace(worker, half_done=True))
    return replace(state, position=worker.batch).of(which, Worker(at=worker.batch))


def position_then_rows(state: State, which: int, worker: Worker) -> State:
    if not worker.half_done:
        if state.position != worker.at:
            return state.of(which, Worker(at=state.position))
        return replace(state, position=worker.batch).of(which, replace(worker, half_done=True))
    return state.take(worker.at, worker.batch).of(which, Worker(at=worker.batch))


def successors(apply: Apply, state: State) -> Iterator[tuple[str, State]]:
    for which, worker in enumerate(state.workers):
        name = "ab"[which]
        if worker.batch:
            done = f"{name} applies {worker.at + 1}-{worker.batch}"
            yield done + (", second half" if worker.half_done else ""), apply(state, which, worker)
        else:
            for end in range(worker.at + 1, min(worker.at + BATCH_MAX, EVENTS) + 1):
                read = replace(worker, batch=end)
                yield f"{name} reads {worker.at + 1}-{end}", state.of(which, read)
        if state.deaths < DEATHS_MAX and worker != (fresh := Worker(at=state.position)):
            died = replace(state, deaths=state.deaths + 1)
            yield f"{name} dies and starts at the stored position", died.of(which, fresh)


def wrong(state: State, ended: bool) -> str:
    if max(state.applied) > 1:
        return f"doubled: {state.applied}"
    if ended and state.applied != (1,) * EVENTS:
        return f"lost: {state.applied}"
    return ""


def test_each_event_is_applied_exactly_once() -> None:
    found = explore(State(), lambda state: successors(compare_and_set, state), wrong)
    print(found)
    assert not found.path


@pytest.mark.parametrize(
    ("apply", "how"),
    [(set_only, "doubled"), (rows_then_position, "doubled"), (position_then_rows, "lost")],
)
def test_what_is_broken_is_found(apply: Apply, how: str) -> None:
    found = explore(State(), lambda state: successors(apply, state), wrong)
    print(found)
    assert found.path[-1].startswith(how)
