"""A replay passes over what is a letter of the served view, and reads what was tried again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.dead import DeadLetters
from millrace.log.letters import Letter, read_letters
from millrace.log.memory import MemoryLog
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Change
from millrace.stores.postgres import PostgresStore
from millrace.views import likes, media
from streams.dead_letters import DeadLetterDesk
from streams.replay import drop_beside
from tests.histories import PARTITIONS, History, write
from tests.replay_world import ReplayWorld

ANA, BEN, PHOTO = 1, 2, 101
REQUEST = b"request-00000000"


@pytest.fixture
async def world(postgres_settings: Settings, postgres_store: PostgresStore) -> ReplayWorld:
    lenient = postgres_settings.model_copy(update={"project_dead_ratio_max": 1.0})
    return ReplayWorld(lenient, postgres_store, MemoryLog(PARTITIONS))


async def write_all(world: ReplayWorld, *operations: tuple[Any, ...]) -> None:
    for operation in operations:
        record = write(History(), operation)
        await world.log.append(record.topic, record.key, record.value)


async def refuse(world: ReplayWorld, view: View, owner: int) -> list[Letter]:
    """The served view follows with code that cannot take this user's events."""

    def project(event: Event) -> Sequence[Change]:
        if int.from_bytes(event.key, "big") == owner:
            raise PoisonEvent("an older version's mistake")
        return view.project(event)

    letters: Any = DeadLetters(
        world.log, view.name, SystemClock(), ratio_max=1.0, window_events=1_000
    )
    world.letters = letters
    await world.project(replace(view, project=project))
    return await read_letters(world.log)


@pytest.mark.parametrize(
    ("view", "operations"),
    [
        # The one is copied, the other applied.
        (likes.VIEW, [("like", ANA, PHOTO), ("like", BEN, PHOTO)]),
        (media.VIEW, [("upload", ANA, 101, REQUEST), ("upload", BEN, 102, REQUEST)]),
    ],
    ids=["copied", "applied"],
)
async def test_a_replay_is_what_was_served_before_and_after_a_retry(
    world: ReplayWorld, view: View, operations: list[tuple[Any, ...]]
) -> None:
    await write_all(world, *operations)
    (letter,) = await refuse(world, view, ANA)
    done = await world.replay(view)
    assert (done.differs, done.dead_count, done.switched) == (False, 1, True)
    done_again = await DeadLetterDesk(world.log, SystemClock()).retry(letter)
    await world.project(view)
    (edges,) = view.edges
    rows = [edge async for edge in world.store.scan_edges(edges.table)]
    assert len(rows) == 2
    assert done_again.number in {edge.version for edge in rows}
    await drop_beside(view, world.parts)
    done = await world.replay(view)
    assert (done.differs, done.dead_count, done.switched) == (False, 1, True)
    assert [edge async for edge in world.store.scan_edges(edges.table)] == rows
