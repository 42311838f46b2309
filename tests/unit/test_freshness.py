"""One poll serves all who wait for a view; nobody polls while nobody waits."""

import asyncio
from collections.abc import Mapping

from millrace.clock import SystemClock
from millrace.errors import StoreUnavailable
from millrace.settings import Settings
from millrace.stores.memory import MemoryStore
from millrace.stores.port import StoredPosition
from services.freshness import Positions


class Store(MemoryStore):
    """Views whose positions the test sets; `polls` counts how often somebody asked."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[tuple[str, int], int] = {("users", 0): 0, ("users", 1): 0}
        self.polls = 0
        self.down = False

    async def positions(self, view: str) -> dict[tuple[str, int], StoredPosition]:
        self.polls += 1
        if self.down:
            raise StoreUnavailable("down")
        return {key: StoredPosition(1, 1, number) for key, number in self.at.items()}


def watching(store: Store, **changed: int) -> Positions:
    return Positions(store, SystemClock(), Settings(position_poll_ms=1, **changed))  # type: ignore[arg-type]


def need(number: int) -> Mapping[tuple[str, int], int]:
    return {("users", 1): number}


async def test_nothing_is_needed_nothing_is_asked() -> None:
    store = Store()
    assert await watching(store).covers("users", {}, 0.0)
    assert store.polls == 0


async def test_many_wait_by_one_poll() -> None:
    store = Store()
    positions = watching(store)
    waiting = [asyncio.create_task(positions.covers("users", need(5), 5.0)) for _ in range(100)]
    while store.polls < 3:
        await asyncio.sleep(0)
    store.at["users", 1] = 5
    assert all(await asyncio.gather(*waiting))
    asked = store.polls
    assert asked < 100
    assert await positions.covers("users", need(4), 0.0)
    assert store.polls == asked


async def test_a_view_that_lags_is_late() -> None:
    store = Store()
    positions = watching(store)
    assert not await positions.covers("users", need(1), 0.02)
    await until_idle(positions)
    asked = store.polls
    await asyncio.sleep(0)
    assert store.polls == asked


async def test_a_store_that_is_away_is_waited_for() -> None:
    store = Store()
    store.down = True
    positions = watching(store)
    waiting = asyncio.create_task(positions.covers("users", need(1), 5.0))
    while store.polls < 3:
        await asyncio.sleep(0)
    store.down, store.at["users", 1] = False, 1
    assert await waiting


async def test_what_was_seen_is_forgotten() -> None:
    store = Store()
    store.at["users", 1] = 9
    positions = watching(store, position_seen_ms=0)
    assert await positions.covers("users", need(9), 5.0)
    store.at["users", 1] = 3
    assert not await positions.covers("users", need(9), 0.02)


async def until_idle(positions: Positions) -> None:
    while positions._views["users"].poller is not None:
        await asyncio.sleep(0)
