"""The audit on the twins: silent about whatever the log says, and about nothing else."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import View
from millrace.stores.changes import Batch, Move
from millrace.views import follows, likes, media
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.follows_pb2 import UserFollowed
from streams.audit.feed_look import FeedLook
from streams.audit.keys import HASHES, Keys
from streams.audit.look import Bounds, Sources, look
from streams.audit.slices import Slice
from tests.audited import AuditedWorld, Written
from tests.histories import follow, operation, operations

bounds = st.integers(1, 4)
live = st.lists(st.one_of(operation, follow), max_size=30)


async def world_of(ops: list[Any], waiting: list[Any] | None = None) -> AuditedWorld:
    world = AuditedWorld()
    await world.open()
    for op in ops:
        await world.write(op)
    world.waiting = list(waiting or ())
    return world


@settings(max_examples=80, deadline=None)
@given(operations, live, bounds, bounds)
def test_what_the_log_says_is_no_difference(
    ops: list[Any], waiting: list[Any], keys_max: int, members_max: int
) -> None:
    """Clashes of ids, requests that come again, events that mean nothing, slices of one key, and
    events while it reads.
    """

    async def check() -> None:
        world = await world_of(ops, waiting)
        await world.audit("counts", "edges", keys_max=keys_max, members_max=2 * members_max)
        assert world.heard.differences == []

    asyncio.run(check())


@settings(max_examples=50, deadline=None)
@given(operations, live, bounds)
def test_feeds_are_what_the_log_says(ops: list[Any], waiting: list[Any], keys_max: int) -> None:
    async def check() -> None:
        world = await world_of(ops, waiting)
        low = 0
        while low < HASHES:
            keys = Keys(seed=1, low=low, keys_max=keys_max)
            found = await _look_at_feeds(world, keys)
            if found:
                chosen = {one.key for one in found}
                found = await _look_at_feeds(world, Keys(seed=1, low=0, keys_max=9, chosen=chosen))
            assert found == []
            low = keys.high

    asyncio.run(check())


async def _look_at_feeds(world: AuditedWorld, keys: Keys) -> list[Any]:
    sources = Sources(world.log, world.views, world.feeds, world.log.clock, Written(world))
    limits = Bounds(keys_max=3, members_max=8, wait_s=1.0, again_s=1.0)
    return (await look(FeedLook(), keys, sources, limits, lambda _: None))[1]


@settings(max_examples=30, deadline=None)
@given(operations, bounds, bounds)
def test_slices_of_any_size_examine_the_same(
    ops: list[Any], keys_max: int, members_max: int
) -> None:
    async def check() -> None:
        world = await world_of(ops)
        whole = await world.audit("counts", "edges", keys_max=1_000, members_max=1_000)
        sliced = await world.audit("counts", "edges", keys_max=keys_max, members_max=members_max)
        assert sliced == whole

    asyncio.run(check())


def test_a_key_above_the_bound_is_held_whole_with_few_sweeps() -> None:
    """Were a celebrity's slice swept at each follower, an audit of millions would never end."""
    keys = Keys(seed=1, low=0, keys_max=9)
    part = Slice("users", keys, 8, ("follows",))
    sweep, sweeps = part._room._sweep, 0

    def counted() -> int:
        nonlocal sweeps
        sweeps += 1
        return sweep()

    part._room._sweep = counted
    # The slice begins at the lowest hash, and keeps that key.
    celebrity, *followers = sorted(range(1, 2_001), key=keys.hash)
    for number, follower in enumerate(sorted(followers), start=1):
        followed = UserFollowed(follower_id=follower, followee_id=celebrity)
        part.feed(Event("follows", 0, number, number, b"", followed))
    assert celebrity in keys
    assert part.oracle.followers[celebrity] == set(followers)
    assert sweeps < 100


PLANTED = (
    (follows.VIEW, "follows", (1, 2), False, {"following": 1, "followers": 2}),
    (follows.VIEW, "follows", (5, 6), True, {"following": 5, "followers": 6}),
    (likes.VIEW, "likes", (101, 1), False, {"likes": 101, "likes_by_user": 1}),
    (likes.VIEW, "likes", (999, 77), True, {"likes": 999, "likes_by_user": 77}),
    (media.VIEW, "media_by_author", (1, 303), False, {"media": 1, "media_by_author": 1}),
)


@pytest.mark.parametrize(("view", "table", "pair", "alive", "keys"), PLANTED)
async def test_an_edge_too_many_or_too_few_is_told_with_its_keys(
    view: View, table: str, pair: tuple[int, int], alive: bool, keys: dict[str, int]
) -> None:
    """Also one whose users and media the log has never named."""
    ops = [("register", 1), ("follow", 1, 2), ("like", 1, 101), ("upload", 1, 303, b"request-1")]
    world = await world_of([*ops, ("follow", 1, 3), ("follow", 4, 2)])
    await world.plant(view, table, *pair, live=alive)
    found = await world.audit("counts", "edges")
    told = {one.relation: one.key for one in world.heard.differences}
    assert keys.items() <= told.items()
    assert sum(row.differences for row in found) == len(world.heard.differences)
    assert all(one.position for one in world.heard.differences)


async def test_a_difference_that_was_only_late_is_not_told() -> None:
    world = await world_of([("follow", 1, 2)])
    await world.plant(follows.VIEW, "follows", 1, 2, live=False)
    sleep = world.log.clock.sleep

    async def healed(seconds: float) -> None:
        await world.plant(follows.VIEW, "follows", 1, 2, live=True)
        await sleep(seconds)

    world.log.clock.sleep = healed  # type: ignore[method-assign]
    await world.audit("counts", "edges")
    assert world.heard.differences == []


async def test_a_sample_is_as_large_as_it_was_asked_to_be() -> None:
    world = await world_of([("follow", one, one + 1) for one in range(1, 40)])
    found = await world.audit("counts", sample=7)
    assert {row.examined for row in found if row.relation == "following"} == {7}


async def test_a_dead_letter_is_not_expected_and_a_retried_one_counts_by_its_old_place() -> None:
    world = await world_of([("follow", 1, 2), ("follow", 3, 4)])
    # The view never took the follow of 5; nor the unfollow of 3, which is then tried again.
    for op in (("follow", 5, 6), ("unfollow", 3, 4)):
        await _die(world, op)
    found = await world.audit("counts", "edges")
    assert not sum(row.differences for row in found), world.heard.differences


async def _die(world: AuditedWorld, op: Any) -> None:
    """In the log, passed over by its view, with a letter."""
    before = {
        place: row.position for place, row in (await world.views.positions("follows")).items()
    }
    taken = AuditedWorld(log=world.log, _history=world._history)
    await taken.open()
    await taken.write(op)
    for (topic, partition), position in before.items():
        end = world.log.end(topic, partition)
        for number in range(position + 1, end + 1):
            letter = DeadLetter(view="follows", topic=topic, partition=partition, number=number)
            value = letter.SerializeToString()
            await world.log.append(f"{topic}.dead", key_of(1), value, partition=partition)
        if end > position:
            await _skip(world, topic, partition, position, end)


async def _skip(world: AuditedWorld, topic: str, partition: int, start: int, end: int) -> None:
    move = Move(topic, partition, start, end)
    await world.views.apply(follows.VIEW.schema, Batch("follows", (move,), []))


async def test_a_view_that_stays_behind_is_said() -> None:
    world = await world_of([("follow", 1, 2)])
    await world.log.append("follows", key_of(1), b"\xff", partition=0)
    with pytest.raises(StoreUnavailable, match="view follows is still 1 events behind"):
        await world.audit("counts")


async def test_a_view_that_was_never_opened_is_said() -> None:
    with pytest.raises(FailedPrecondition, match="never opened"):
        await AuditedWorld().audit("counts")
