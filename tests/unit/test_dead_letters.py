"""Dead letters that are tried again or dropped: rows stay as their newest events say, counts equal
their sets, and a view that had taken the event does nothing.
"""

import asyncio
import random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.errors import FailedPrecondition, InvalidRequest, NotFound, StoreUnavailable
from millrace.log.codec import decode
from millrace.log.dead import DeadLetters
from millrace.log.event_id import EventId, event_id
from millrace.log.letters import letters_at, read_letters
from millrace.log.memory import MemoryLog
from millrace.log.port import ORDER_HEADER, Appended
from millrace.log.reading import record_at
from millrace.stores.changes import Batch, Move
from millrace.traffic.history import read_history
from millrace.traffic.record import Edge
from millrace.views import follows, media
from millrace.views.vault import vault_key
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.likes_pb2 import MediaLiked, MediaUnliked
from social.log.v1.vault_pb2 import VAULT_KIND_PASSWORD
from streams.audit.events import Events
from streams.dead_letters import DeadLetterDesk
from tests.fanout_world import World
from tests.letters_world import OTHER, LettersWorld, edges_of

ANA, BEN, CEM = 1, 2, 3
PHOTO = 101


async def opened(partitions: int = 3) -> tuple[LettersWorld, MemoryLog]:
    log = MemoryLog(partitions, ManualClock())
    world = LettersWorld(log, clock=log.clock)
    await world.open()
    return world, log


async def refused(world: LettersWorld, *writes: tuple[str, int]) -> None:
    """These (kind, user) became letters of view `likes`, which has got better since."""
    world.refused = {user for _, user in writes}
    for kind, user in writes:
        await world.write(kind, user, PHOTO)
    await world.catch_up()
    world.refused = set()


async def test_a_letter_that_is_tried_again_is_applied_once_and_by_its_own_number() -> None:
    world, _ = await opened()
    await refused(world, ("like", ANA))
    assert await world.edges() == []
    other = await world.edges(OTHER)
    (letter,) = await world.dead()
    assert (letter.view, letter.reason) == ("likes", "refused by the test")
    tried = await world.desk.retry(letter)
    await world.catch_up()
    (edge,) = await world.edges()
    assert (edge.source, edge.target, edge.version) == (PHOTO, ANA, tried.number)
    # The other view had taken the event: its edge began with that.
    assert await world.edges(OTHER) == other
    (after,) = await read_letters(world.log)
    assert (after.state, after.retried_as) == ("retried", tried)


async def test_an_old_retry_does_not_revive_what_has_ended_since() -> None:
    world, _ = await opened()
    await refused(world, ("like", ANA))
    await world.write("unlike", ANA, PHOTO)
    await world.catch_up()
    (letter,) = await world.dead()
    await world.desk.retry(letter)
    await world.catch_up()
    assert await world.edges() == []


async def test_an_old_retry_does_not_end_what_has_begun_since() -> None:
    world, _ = await opened()
    await refused(world, ("unlike", ANA))
    newer = await world.write("like", ANA, PHOTO)
    await world.catch_up()
    (letter,) = await world.dead()
    await world.desk.retry(letter)
    await world.catch_up()
    assert [edge.version for edge in await world.edges()] == [newer.number]


async def test_an_audit_reads_two_retries_of_one_edge_as_the_view_does() -> None:
    world, log = await opened()
    await refused(world, ("like", ANA), ("unlike", ANA))
    for letter in await world.dead():
        await world.desk.retry(letter)
    await world.catch_up()
    assert await world.edges() == []
    assert await _audited(log) == set()


async def test_the_checks_of_traffic_read_letters_and_retries_as_the_view_does() -> None:
    """`millrace traffic --verify`, where events of other runs died: also one that is still dead."""
    world, log = await opened()
    await refused(world, ("like", ANA), ("like", BEN), ("like", CEM))
    await world.write("unlike", ANA, PHOTO)
    for letter in await world.dead():
        if await _liker(log, letter.event) != CEM:
            await world.desk.retry(letter)
    await world.catch_up()
    history = await read_history(log, b"")
    assert [edge.target for edge in await world.edges()] == [BEN]
    assert history.oracle.likers.get(PHOTO) == {BEN}
    # It was acknowledged, and the log has it.
    assert history.edges[Edge("likes", CEM, PHOTO, live=True)] == 1


async def _liker(log: MemoryLog, event: EventId) -> int:
    record = await record_at(log, event)
    return cast(MediaLiked, decode(record).message).user_id


async def test_a_retry_is_asked_for_again_only_on_purpose() -> None:
    world, _ = await opened()
    await refused(world, ("like", ANA))
    (letter,) = await world.dead()
    first = await world.desk.retry(letter)
    (known,) = await letters_at(world.log, [letter.id])
    with pytest.raises(FailedPrecondition, match=f"retried as {first} already"):
        await world.desk.retry(known)
    second = await world.desk.retry(known, again=True)
    await world.catch_up()
    assert [edge.version for edge in await world.edges()] == [first.number]
    (known,) = await letters_at(world.log, [letter.id])
    assert known.retried_as == second


async def test_a_retry_that_dies_again_is_a_letter_with_its_old_place() -> None:
    world, _ = await opened()
    await refused(world, ("like", ANA))
    (letter,) = await world.dead()
    world.refused = {ANA}
    tried = await world.desk.retry(letter)
    await world.catch_up()
    world.refused = set()
    (again,) = await world.dead()
    assert (again.event, again.order) == (tried, letter.order)
    await world.write("unlike", ANA, PHOTO)
    await world.desk.retry(again)
    await world.catch_up()
    assert await world.edges() == []


async def test_a_dropped_letter_is_listed_no_more_and_can_be_had_back() -> None:
    world, _ = await opened(partitions=1)
    await refused(world, ("like", ANA), ("like", BEN))
    first, second = await world.dead()
    await world.desk.drop(first)
    assert [letter.id for letter in await world.dead()] == [second.id]
    (known,) = await letters_at(world.log, [first.id])
    for decide in (world.desk.drop, world.desk.retry):
        with pytest.raises(FailedPrecondition, match="was dropped already"):
            await decide(known)
    await world.desk.retry(known, again=True)
    await world.catch_up()
    assert [edge.target for edge in await world.edges()] == [ANA]


async def test_a_photo_that_is_tried_again_reaches_the_feeds() -> None:
    world = World()
    await world.open()
    await world.write(("follow", BEN, ANA))
    await world.project(follows.VIEW, 9)
    await world.post(ANA)
    ((_, media_id),) = world.media
    place = ("media", media_id % 2)
    (record,) = world.log.after(*place, 0, 9)
    dead = DeadLetters(world.log, "media", world.clock, ratio_max=1, window_events=9)
    await dead.put(record, "refused")
    passed = Batch("media", (Move(*place, 0, record.number),), [])
    await world.views.apply(media.VIEW.schema, passed)
    await world.quiet()
    assert await world.feeds.page(BEN, limit=9) == []
    (letter,) = await read_letters(world.log)
    await DeadLetterDesk(world.log, world.clock).retry(letter)
    await world.quiet()
    assert await world.feeds.page(BEN, limit=9) == [(media_id, ANA)]


async def test_a_letter_that_was_written_twice_is_one() -> None:
    world, log = await opened(partitions=1)
    await refused(world, ("like", ANA))
    twice = log.duplicate("likes.dead", 0, 1)
    (letter,) = await world.dead()
    assert await letters_at(log, [EventId("likes.dead", 0, twice.number)]) == [letter]
    await world.desk.drop(letter)
    assert await world.dead() == []


class LosingLog(MemoryLog):
    """Does not take decisions."""

    losing = True

    async def append(self, topic: str, *args: object, **more: object) -> Appended:
        if topic.endswith(".dead") and self.losing:
            raise StoreUnavailable("away")
        return await super().append(topic, *args, **more)  # type: ignore[arg-type]


async def test_a_retry_whose_decision_was_lost_may_be_repeated() -> None:
    log = LosingLog(2, ManualClock())
    world = LettersWorld(log, clock=log.clock)
    await world.open()
    log.losing = False
    await refused(world, ("like", ANA))
    (letter,) = await world.dead()
    log.losing = True
    with pytest.raises(StoreUnavailable):
        await world.desk.retry(letter)
    log.losing = False
    assert await world.dead() == [letter]
    await world.desk.retry(letter)
    await world.catch_up()
    assert [edge.version for edge in await world.edges()] == [2]


async def test_a_secret_that_a_newer_one_has_replaced_is_not_written_again() -> None:
    log = MemoryLog(1, ManualClock())
    desk = LettersWorld(log, clock=log.clock).desk
    key = vault_key(ANA, VAULT_KIND_PASSWORD)
    for value in (b"old", b"new"):
        await log.append("vault", key, value, partition=0)
    for number in (1, 2):
        message = DeadLetter(view="vault", topic="vault", number=number, key=key, value=b"-")
        await log.append("vault.dead", key, message.SerializeToString(), partition=0)
    old, new = await read_letters(log)
    with pytest.raises(FailedPrecondition, match="replaced by event 2"):
        await desk.retry(old)
    tried = await desk.retry(new)
    (record,) = log.after("vault", 0, 2, 9)
    assert (record.number, record.key, record.value) == (tried.number, key, b"new")
    assert int.from_bytes(record.headers[ORDER_HEADER], "big") == 2


async def test_a_letter_that_is_named_twice_is_had_once() -> None:
    world, log = await opened(partitions=1)
    await refused(world, ("like", ANA), ("like", BEN))
    first, second = (letter.id for letter in await world.dead())
    found = await letters_at(log, [second, first, second])
    assert [letter.id for letter in found] == [second, first]


async def test_what_is_no_letter_is_told() -> None:
    world, log = await opened(partitions=1)
    await refused(world, ("like", ANA))
    with pytest.raises(InvalidRequest, match="is no dead letter"):
        await letters_at(log, [EventId("likes", 0, 1)])
    with pytest.raises(NotFound, match="there is no dead letter"):
        await letters_at(log, [EventId("likes.dead", 0, 2)])
    await log.append("likes.dead", b"", b"\xff\xff", partition=0)
    assert len(await world.dead()) == 1


@pytest.mark.parametrize(
    "text",
    ["", "media", "media/1", "media/x/1", "media/1/0", "media/3/1", "nothing/0/1", "media/-1/1"],
)
def test_an_id_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        event_id(text, 3)


def test_an_id_reads_as_it_is_written() -> None:
    assert str(event_id("chunks.small/2/17", 3)) == "chunks.small/2/17"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_retries_among_other_events_leave_what_the_newest_events_say(seed: int) -> None:
    """Some users are refused now and then; their letters are tried again at any time. The model:
    of the events of an edge that the view has taken, the one with the highest order counts.
    """

    async def scenario() -> None:
        rng = random.Random(seed)
        world, log = await opened()
        for _ in range(rng.randint(3, 30)):
            world.refused = {rng.randint(1, 4)} if rng.random() < 0.5 else set()
            for _ in range(rng.randint(0, 4)):
                await world.write(rng.choice(["like", "unlike"]), rng.randint(1, 4), PHOTO)
            if (dead := await world.dead()) and rng.random() < 0.6:
                await world.desk.retry(rng.choice(dead))
            await world.catch_up()
        edges = await world.edges()
        assert await edges_of(await world.replayed()) == edges
        assert {edge.target for edge in edges} == await _wanted(world, log)
        assert {edge.target for edge in edges} == await _audited(log)

    asyncio.run(scenario())


async def _wanted(world: LettersWorld, log: MemoryLog) -> set[int]:
    refused = {letter.event for letter in await read_letters(log)}
    last: dict[bytes, tuple[int, bool]] = {}
    for partition in range(3):
        for record in log.after("likes", partition, 0, 10_000):
            if EventId("likes", partition, record.number) in refused:
                continue
            order = int.from_bytes(record.headers.get(ORDER_HEADER, b""), "big") or record.number
            live = (record.value or b"").startswith(b"\n")
            last[record.key] = max(last.get(record.key, (0, False)), (order, live))
    return {int.from_bytes(key, "big") for key, (_, live) in last.items() if live}


async def _audited(log: MemoryLog) -> set[int]:
    """Who likes the photo, as an audit reads the log."""
    events = Events(log)
    await events.learn_dead(["likes"])
    live: set[int] = set()
    async for event in events.all(["likes"], {}, await events.ends(["likes"])):
        if isinstance(event.message, MediaLiked):
            live.add(event.message.user_id)
        elif isinstance(event.message, MediaUnliked):
            live.discard(event.message.user_id)
    return live
