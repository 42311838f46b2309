"""A cached value under leases: two fillers; an invalidator that waits for the replica, and may do
its work twice; a server that may evict, or restart: its compare-and-set numbers then begin anew. A
value is the number of writes that it contains.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.model.explore import explore

WRITES = 2
RESTARTS_MAX = EVICTIONS_MAX = REPEATS_MAX = 1
NONE = -1


@dataclass(frozen=True)
class Item:
    """`value` NONE: a stub that somebody was asked to fill. `leased`: somebody was, since."""

    cas: int
    value: int = NONE
    stale: bool = False
    leased: bool = False


@dataclass(frozen=True)
class Filler:
    """Won the item at `cas` of the server's `life`; `read`: what the replica said."""

    cas: int
    life: int
    read: int = NONE


@dataclass(frozen=True)
class State:
    """`next_cas`: of the server, in this life. `done`: what the invalidator has covered."""

    log: int = 0
    replica: int = 0
    done: int = 0
    item: Item | None = None
    next_cas: int = 1
    life: int = 0
    evictions: int = 0
    repeats: int = 0
    fillers: tuple[Filler | None, Filler | None] = (None, None)

    def of(self, which: int, filler: Filler | None) -> "State":
        fillers = (filler, self.fillers[1]) if which == 0 else (self.fillers[0], filler)
        return replace(self, fillers=fillers)

    def put(self, item: Item) -> "State":
        return replace(self, item=replace(item, cas=self.next_cas), next_cas=self.next_cas + 1)


@dataclass(frozen=True)
class Rules:
    """Each switched off is a broken variant."""

    waits_for_replica: bool = True
    compares: bool = True
    lower_lands_stale: bool = True
    invalidates_stubs: bool = True
    same_life_only: bool = True


def invalidated(rules: Rules, state: State) -> State:
    """`md k I`: the item stays, stale, with a new number, and whoever reads next is asked."""
    if state.item is None or (state.item.value == NONE and not rules.invalidates_stubs):
        return state
    return state.put(replace(state.item, stale=True, leased=False))


def filled(rules: Rules, state: State, filler: Filler) -> State:
    """`ms k C I`: in place of what was won; where that was invalidated since, stale; else not."""
    if rules.same_life_only and filler.life != state.life:
        return state
    if not rules.compares:
        return state.put(Item(0, filler.read))
    if state.item is None or filler.cas > state.item.cas:
        return state
    if filler.cas < state.item.cas:
        if not rules.lower_lands_stale:
            return state.put(Item(0, filler.read))
        return state.put(replace(state.item, value=filler.read, stale=True))
    return state.put(Item(0, filler.read))


def successors(rules: Rules, state: State) -> Iterator[tuple[str, State]]:
    if state.log < WRITES:
        yield "a write", replace(state, log=state.log + 1)
    if state.replica < state.log:
        yield "the replica applies it", replace(state, replica=state.replica + 1)
    if state.done < (state.replica if rules.waits_for_replica else state.log):
        told = invalidated(rules, state)
        yield f"invalidator: {state.done + 1}", replace(told, done=state.done + 1)
        if told != state and state.repeats < REPEATS_MAX:
            words = f"invalidator: {state.done + 1}, and dies before it says so"
            yield words, replace(told, repeats=state.repeats + 1)
    if state.item and state.evictions < EVICTIONS_MAX:
        yield "evicted", replace(state, item=None, evictions=state.evictions + 1)
    if state.item and state.life < RESTARTS_MAX:
        yield "memcached restarts", replace(state, item=None, next_cas=1, life=state.life + 1)
    for which, filler in enumerate(state.fillers):
        name = "ab"[which]
        if filler is None:
            if state.item is None:
                stub = state.put(Item(0, leased=True))
                yield f"{name} wins a stub", stub.of(which, Filler(state.next_cas, state.life))
            elif not state.item.leased and (state.item.stale or state.item.value == NONE):
                won = replace(state, item=replace(state.item, leased=True))
                yield f"{name} wins", won.of(which, Filler(state.item.cas, state.life))
            continue
        if filler.read == NONE:
            yield (
                f"{name} reads {state.replica}",
                state.of(which, replace(filler, read=state.replica)),
            )
        else:
            yield f"{name} fills {filler.read}", filled(rules, state, filler).of(which, None)
        yield f"{name} dies", state.of(which, None)


def wrong(state: State, ended: bool) -> str:
    item = state.item
    if item and item.value != NONE and not item.stale and item.value < state.done:
        return f"old: {item.value} is served as fresh, though {state.done} was invalidated"
    return ""


def test_nothing_that_was_invalidated_is_served_as_fresh() -> None:
    found = explore(State(), lambda state: successors(Rules(), state), wrong)
    print(found)
    assert not found.path


@pytest.mark.parametrize(
    "rules",
    [
        Rules(waits_for_replica=False),
        Rules(compares=False),
        Rules(lower_lands_stale=False),
        Rules(invalidates_stubs=False),
        Rules(same_life_only=False),
    ],
    ids=str,
)
def test_what_is_broken_is_found(rules: Rules) -> None:
    found = explore(State(), lambda state: successors(rules, state), wrong)
    print(found)
    assert found.path[-1].startswith("old")
