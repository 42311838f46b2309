"""The feed's rows built again beside the served ones, on the twins, while delivery goes on."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import FailedPrecondition
from millrace.settings import Settings
from streams.replay_feed import (
    FeedParts,
    ReplayedFeed,
    drop_beside,
    replay_feed,
    roll_back,
    status_of,
)
from tests.fanout_world import USERS, World, run

people = st.sampled_from(USERS)
ops = st.one_of(
    st.tuples(st.just("follow"), people, people).filter(lambda op: op[1] != op[2]),
    st.tuples(st.just("post"), people),
    st.tuples(st.just("post"), people),
    st.tuples(st.just("project"), st.sampled_from(["media", "follows"]), st.integers(1, 5)),
    st.tuples(st.just("plan"), st.integers(1, 20)),
    st.tuples(st.just("deliver"), st.integers(1, 4)),
    st.tuples(st.just("kill delivery")),
    st.tuples(st.just("wait"), st.just(1)),
)
histories = st.lists(ops, min_size=10, max_size=40)


async def parts_of(world: World, later: list[Any] | None = None) -> FeedParts:
    """Whenever the replay waits, one more of `later` happens in the world."""
    waiting = list(later or ())
    clock = world.clock
    told: list[str] = []

    class Clock:
        def now_ms(self) -> int:
            return clock.now_ms()

        def monotonic_s(self) -> float:
            return clock.monotonic_s()

        async def sleep(self, seconds: float) -> None:
            if waiting:
                await world.apply(waiting.pop(0))
            else:
                await world.quiet()
            clock.advance(max(round(seconds * 1000), 1))
            await asyncio.sleep(0)

    return FeedParts(
        Settings(delivery_records_max=2),
        Clock(),
        world.log,
        world.views,
        world.feeds,
        lambda text, at, of: told.append(text),
    )


async def replayed(parts: FeedParts, **changed: Any) -> ReplayedFeed:
    asked = {"compare": True, "switch": True, "accept": False, "rows_per_s": 0.0, **changed}
    return await replay_feed(parts, **asked)


@settings(max_examples=60, deadline=None)
@given(histories, histories)
def test_every_owed_row_is_in_the_new_table(history: list[Any], later: list[Any]) -> None:
    async def check() -> None:
        world = await run(history)
        done = await replayed(await parts_of(world, later))
        await world.quiet()
        assert done.switched
        assert (await world.feeds.tables()).current == "feed_by_user_1"
        assert not await world.missing()
        assert not done.missing

    asyncio.run(check())


FOLLOWED = [("follow", 2, 1), ("follow", 3, 1), ("project", "follows", 9)]


async def test_a_replay_that_is_killed_goes_on_where_it_was() -> None:
    world = await run([*FOLLOWED, *[("post", 1)] * 6])
    parts = await parts_of(world)
    killed = FeedParts(
        parts.settings, parts.clock, parts.log, parts.views, _Dying(world.feeds, 1), parts.told
    )
    with pytest.raises(ConnectionError):
        await replayed(killed)
    assert "is being built" in await status_of(parts)
    done = await replayed(parts)
    assert done.switched
    assert done.table == "feed_by_user_1"
    assert not await world.missing()


class _Dying:
    """Dies with the n-th write of its process to one table; everything else is the store's."""

    def __init__(self, feeds: Any, writes: int) -> None:
        self._feeds = feeds
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feeds, name)

    async def write_to(self, table: str, rows: Any) -> None:
        self._writes -= 1
        if self._writes < 0:
            raise ConnectionError("killed")
        await self._feeds.write_to(table, rows)


async def test_a_node_that_forgets_rows_before_the_switch_gets_them_again() -> None:
    world = await run([*FOLLOWED, *[("post", 1)] * 6])
    parts = await parts_of(world)
    crashed: list[bool] = []

    def told(text: str, at: int, of: int) -> None:
        if text == "waiting until all is on disk" and not crashed:
            crashed.append(True)
            world.feeds.crash(5)

    again = FeedParts(parts.settings, parts.clock, parts.log, parts.views, parts.feeds, told)
    done = await replayed(again)
    assert crashed
    assert done.switched
    assert not await world.missing()


async def test_a_row_that_is_lost_keeps_the_old_table_served() -> None:
    world = await run([*FOLLOWED, ("post", 1)])
    parts = await parts_of(world)
    lost = FeedParts(
        parts.settings, parts.clock, parts.log, parts.views, _Losing(world.feeds), parts.told
    )
    done = await replayed(lost)
    assert not done.switched
    assert {one.key for one in done.missing} == {2, 3}
    assert (await world.feeds.tables()).current == "feed_by_user"


class _Losing(_Dying):
    def __init__(self, feeds: Any) -> None:
        super().__init__(feeds, 0)

    async def write_to(self, table: str, rows: Any) -> None:
        return


async def test_the_old_table_is_kept_served_again_and_dropped() -> None:
    world = await run([*FOLLOWED, ("post", 1)])
    parts = await parts_of(world)
    with pytest.raises(FailedPrecondition, match="no old table"):
        await roll_back(parts)
    await replayed(parts)
    with pytest.raises(FailedPrecondition, match="--drop-old"):
        await replayed(parts)
    # What comes after the switch is in both.
    await world.apply(("post", 1))
    await world.quiet()
    await roll_back(parts)
    assert (await world.feeds.tables()).current == "feed_by_user"
    assert not await world.missing()
    assert await drop_beside(parts) == "kept"
    assert await status_of(parts) == "feed_by_user is served, nothing lies beside it"
    done = await replayed(parts)
    assert done.table == "feed_by_user_2"
    assert not await world.missing()
