"""Random histories, cut into random batches, in memory and on PostgreSQL: both hold what a dict
model holds that took the events one by one; also when positions go back and events come again.
"""

from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from millrace.settings import Settings
from millrace.stores.changes import Batch, Change, EdgeChange, Move
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.stores.postgres import PostgresStore
from tests.contract.view_stores import assert_holds, emptied, go_back, open_sample
from tests.sample_view import (
    PARTITIONS,
    SAMPLE,
    TOPIC,
    Model,
    bond,
    cell,
    cell_end,
    item,
    item_end,
    label,
    label_end,
    title,
)

Operation = tuple[str, int, int, int]

KINDS = (
    *("begin", "begin", "end", "retry"),
    *("item", "item", "title", "item end"),
    *("label", "label", "label end", "cell", "cell end"),
)
# kind, owner, what it is done to, and something more: a request, a text.
operations = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(0, 2),
    ),
    max_size=80,
)


@dataclass
class Event:
    partition: int
    number: int
    change: Change


def events_of(history: list[Operation]) -> list[Event]:
    """Each row has one owner, and the owner's partition gets the event. Numbers leave gaps, into
    which the old order of a retried event fits.
    """
    numbers = [0] * PARTITIONS
    events = []
    for kind, owner, what, more in history:
        names = kind.startswith("label")
        partition = (what if names else owner) % PARTITIONS
        numbers[partition] += 3
        number = numbers[partition]
        events.append(Event(partition, number, _change(kind, owner, what, more, number)))
    return events


def _change(kind: str, owner: int, what: int, more: int, number: int) -> Change:
    # An id holds its author's partition: two partitions never mint the same one.
    own = 10 * what + owner % PARTITIONS
    made: dict[str, Change] = {
        "begin": bond(owner, what, number),
        "end": bond(owner, what, number, live=False),
        "retry": bond(owner, what, number, live=more > 0, order=max(number - 3 * what - 1, 1)),
        "item": item(own, owner, number, (b"", b"r1", b"r2")[more], size=more, digest=b"\0"),
        "title": title(own, owner, number, f"title {more}"),
        "item end": item_end(own, owner, number),
        "label": label(b"label %d" % what, owner, number),
        "label end": label_end(b"label %d" % what, owner, number),
        "cell": cell(owner, number, b"body %d" % more),
        "cell end": cell_end(owner, number),
    }
    return made[kind]


async def play(store: ViewStore, events: list[Event], random: Random) -> None:
    """Applies all events after the stored positions: any partitions, any sizes of batches."""
    positions = {
        partition: row.position for (_, partition), row in (await store.positions("sample")).items()
    }
    while left := [event for event in events if event.number > positions[event.partition]]:
        moves, changes = [], []
        partitions = {event.partition for event in left}
        for partition in random.sample(sorted(partitions), random.randint(1, len(partitions))):
            own = [event for event in left if event.partition == partition]
            taken = own[: random.choice((1, 2, 5, 100))]
            moves.append(Move(TOPIC, partition, positions[partition], taken[-1].number))
            changes += [event.change for event in taken]
            positions[partition] = taken[-1].number
        await store.apply(SAMPLE, Batch("sample", tuple(moves), changes))


async def check(store: ViewStore, history: list[Operation], seed: int) -> None:
    random, events, model = Random(seed), events_of(history), Model()
    for event in events:
        model.take(event.change)
    await open_sample(store)
    await play(store, events, random)
    await assert_holds(store, model)
    for partition in range(PARTITIONS):
        numbers = [event.number for event in events if event.partition == partition]
        if numbers:
            await go_back(store, partition, random.choice([0, *numbers]))
    await play(store, events, random)
    await assert_holds(store, model)


@given(history=operations, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=200)
async def test_memory(history: list[Operation], seed: int) -> None:
    await check(MemoryStore(), history, seed)


# What fails here and not in memory is seldom made clearer by the minutes that shrinking takes.
@given(history=operations, seed=st.integers(0, 2**32))
@settings(
    deadline=None,
    max_examples=30,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_postgres(
    sample_postgres: PostgresStore,
    sample_settings: Settings,
    history: list[Operation],
    seed: int,
) -> None:
    await emptied(sample_settings)
    await check(sample_postgres, history, seed)


def test_histories_have_retried_events() -> None:
    (event,) = events_of([("retry", 1, 1, 0)])
    assert isinstance(event.change, EdgeChange)
    assert event.change.order < event.change.number
