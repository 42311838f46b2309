"""One event told as a story, on the memory twins: what it did, whatever became of it."""

from uuid import UUID

import pytest

from millrace.clock import ManualClock
from millrace.errors import InvalidRequest, NotFound
from millrace.log.dead import DeadLetters
from millrace.log.event_id import EventId
from millrace.log.letters import read_letters
from millrace.log.memory import MemoryLog
from millrace.log.reading import position_before, record_at
from millrace.views import follows
from streams import tracing_feed
from streams.dead_letters import DeadLetterDesk
from streams.progress import Progress
from streams.traced_ids import meant
from streams.tracing import trace
from tests.fanout_world import PARTITIONS, World, run

ANA, BEN = 1, 2


async def told(world: World, text: str, *, texts: bool = False) -> str:
    found = await meant(world.views, text, PARTITIONS)
    chapters = [chapter async for chapter in trace(world, found, texts=texts)]
    return "\n".join(line for one in chapters for line in (one.title, *one.lines))


def story_of(lines: str, *expected: str) -> None:
    for line in expected:
        assert line in lines, f"{line!r} is not in\n{lines}"


async def test_a_post_is_followed_to_the_feeds_of_its_followers() -> None:
    follow = [("follow", user, ANA) for user in (2, 3, 4, 5)]
    world = await run([*follow, ("project", "follows", 99), ("post", ANA), ("catch up",)])
    await world.wait(1)
    ((_, media_id),) = world.media
    lines = await told(world, f"media:{media_id}")
    story_of(
        lines,
        "It says MediaUploaded:",
        f"media_id: {media_id}",
        "in epoch 1 of log 1: it has passed the event.",
        "It has published no progress.",
        "created media",
        f"Row media {media_id} stands; this event changed it last.",
        f"Edge media_by_author {ANA} → {media_id} stands and began with this event.",
        "media_by_author_count of 1: 1",
        "it has passed it.",
        "1 plan(s) name it",
        "chunks.large: 2 chunk(s) with 4 rows",
        "2 are written.",
        "Of all 4 followers now, 4 are owed a row by the last plan: 4 have it, 0 do not.",
    )


async def test_what_a_request_created_is_its_event() -> None:
    world = await run([("post", ANA), ("catch up",)])
    ((_, media_id),) = world.media
    request = str(UUID(bytes=b"request-00000001"))
    by_request = await meant(world.views, f"request:{ANA}/{request}", PARTITIONS)
    assert by_request == await meant(world.views, f"media:{media_id}", PARTITIONS)
    with pytest.raises(NotFound, match="no upload and no comment of user 2 by that request"):
        await meant(world.views, f"request:{BEN}/{request}", PARTITIONS)
    for broken in (f"request:{request}", f"request:ana/{request}", "request:1/2"):
        with pytest.raises(InvalidRequest, match="is no event"):
            await meant(world.views, broken, PARTITIONS)


async def test_rows_that_the_store_has_forgotten_are_missing() -> None:
    world = await run([("follow", BEN, ANA), ("project", "follows", 9), ("post", ANA)])
    ((_, media_id),) = world.media
    world.feeds.crash(9)
    story_of(await told(world, f"media:{media_id}"), "0 have it, 1 do not.", "without it: 2")


async def test_a_large_fan_out_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = [("follow", user, ANA) for user in (2, 3, 4, 5)]
    world = await run([*follow, ("project", "follows", 99), ("post", ANA)])
    ((_, media_id),) = world.media
    for name, value in (("_PAGE_ROWS", 1), ("FOLLOWERS_LOOKED_AT_MAX", 2), ("CHUNKS_READ_MAX", 1)):
        monkeypatch.setattr(tracing_feed, name, value)
    story_of(
        await told(world, f"media:{media_id}"),
        "Of the first 2 of 4 followers now, 2 are owed",
        "1 chunk(s) among the first 1 with 3 rows",
    )


async def test_a_post_that_waits_is_told_how_far_each_step_is() -> None:
    world = World()
    await world.open()
    await world.post(ANA)
    record = next(r for p in range(PARTITIONS) for r in world.log.after("media", p, 0, 9))
    lines = await told(world, f"media/{record.partition}/1")
    story_of(
        lines,
        "is 1 records before the event",
        "has created nothing",
        "is not there",
        "Nobody is owed a row",
        "is 1 records before it.",
        "No plan that the log keeps names the post.",
    )
    with pytest.raises(NotFound, match="the views have no media"):
        await told(world, f"media:{world.media[0][1]}")


async def test_texts_are_shown_only_when_asked_for() -> None:
    world = await run([("post", ANA)])
    ((_, media_id),) = world.media
    await world.write(("caption", ANA, media_id, "a secret"))
    await world.quiet()
    hidden = await told(world, f"media:{media_id}")
    assert "a secret" not in hidden
    story_of(hidden, "sealed with the data key of user 1", "the newer event 2 changed it last")


async def test_a_dead_letter_and_its_retry() -> None:
    world = World()
    await world.open()
    await world.write(("follow", ANA, BEN))
    (record,) = [r for p in range(PARTITIONS) for r in world.log.after("follows", p, 0, 9)]
    dead = DeadLetters(world.log, "follows", world.clock, ratio_max=1, window_events=9)
    await dead.put(record, "not this one")
    event = EventId("follows", record.partition, 1)
    letter = f"follows.dead/{record.partition}/1"
    story_of(await told(world, str(event)), f"letter {letter}, dead, because: not this one")
    story_of(await told(world, letter), "It says DeadLetter:", "No view reads topic follows.dead")
    (found,) = await read_letters(world.log)
    tried = await DeadLetterDesk(world.log, world.clock).retry(found)
    await world.quiet()
    story_of(await told(world, str(event)), f"retried as {tried}", "Edge follows 1 → 2 stands")
    story_of(await told(world, str(tried)), f"It is {event}, a dead letter, tried again")


async def test_a_view_that_went_back_is_told() -> None:
    world = await run([("follow", ANA, BEN)])
    progress = Progress(follows.VIEW, world.views, world.log)
    await progress.look()
    (place,) = [place for place in range(PARTITIONS) if world.log.end("follows", place)]
    stored = world.views._positions["follows"]
    stored["follows", place] = stored["follows", place]._replace(position=0)
    lines = await told(world, f"follows/{place}/1")
    story_of(lines, "It has published 1 in epoch 1.", "So it has gone back")


async def test_what_is_no_event_is_refused() -> None:
    world = await run([("post", ANA)])
    partition = next(p for p in range(PARTITIONS) if world.log.end("media", p))
    wrong = ["media", "nothing/0/1", "media/9/1", "photo:1", "media:x", "media/0/0"]
    for text in wrong:
        with pytest.raises(InvalidRequest):
            await told(world, text)
    for text in (f"media/{partition}/2", "comment:5", "user:5"):
        with pytest.raises(NotFound):
            await told(world, text)


async def test_chunks_and_garbage_have_a_story_too() -> None:
    world = await run([("follow", BEN, ANA), ("project", "follows", 9), ("post", ANA)])
    (partition,) = [p for p in range(PARTITIONS) if world.log.end("plans", p)]
    story_of(await told(world, f"plans/{partition}/1"), "It says FeedPlan:", "No view reads")
    await world.wait(1)
    chunk = f"chunks.small/{partition}/1"
    dead = DeadLetters(world.log, "feed", world.clock, ratio_max=1, window_events=9)
    await dead.put(world.log.after("chunks.small", partition, 0, 1)[0], "not this one")
    story_of(
        await told(world, chunk),
        "Delivery's position is 1: it has passed it.",
        "because: not this one",
    )
    garbage = await world.log.append("follows", b"key", b"\xff\xff")
    lines = await told(world, f"follows/{garbage.partition}/{garbage.number}")
    story_of(lines, "Nobody can read it: not a FollowsEvent.", "before the event")


async def test_a_place_in_the_log_is_found_by_time() -> None:
    clock = ManualClock()
    log = MemoryLog(1, clock)
    for _ in range(9):
        await log.append("likes", b"", b"")
        clock.advance(1_000)
    times = [record.appended_ms for record in log.after("likes", 0, 0, 9)]
    assert [await position_before(log, ("likes", 0), at) for at in times] == list(range(9))
    assert await position_before(log, ("likes", 0), times[-1] + 1) == 9
    assert await position_before(log, ("likes", 0), 0) == 0
    assert (await record_at(log, EventId("likes", 0, 9))).number == 9
