"""Recorded sessions of the whole product pass the checker; what is planted in their history by hand
is found, of every kind of write.

The histories are those that the kill suite judges (`tests/fault_rounds.py`), here of one process on
the memory twins. Each plant changes what one real answer showed: as if a store had lost a write,
done it twice, or been behind the session that asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace

import pytest

from millrace.views import likes
from tests.recorded_sessions import RecordedSessions, meet
from tests.serving import World, serving
from tests.session_checker import Wrong, judge
from tests.session_history import GONE, Outcome, Read, SessionHistory, Write
from tests.session_recorder import RecordedSession

LATE_S = 5.0
CALLS = 15
PATIENCE_S = 30.0
KINDS = ("like", "follow", "comment", "caption", "media", "bio")

Change = Callable[[Read, Write], Read]


@pytest.fixture(scope="module")
async def history() -> SessionHistory:
    """Traffic of all sessions; then one of them alone writes and reads one of each kind, and takes
    back a comment; then everything is looked at.
    """
    recorded = SessionHistory()
    async with serving() as world:
        sessions = await meet(world.address, recorded, people=2)
        try:
            await asyncio.gather(*(_call(one) for one in sessions.all))
            await _alone(world, sessions, recorded)
            await world.process_all()
            await sessions.look_at_everything(1)
        finally:
            await sessions.close()
    return recorded


async def _call(one: RecordedSession) -> None:
    for _ in range(CALLS):
        await one.call_once()


async def _alone(world: World, sessions: RecordedSessions, recorded: SessionHistory) -> None:
    one = sessions.all[0]
    for write in (one.like, one.follow, one.comment, one.caption, one.upload, one.profile):
        await _until(recorded, write, live=True)
    await _until(recorded, one.uncomment, live=False)
    await _until(recorded, one.comment, live=True)
    await world.process_all()
    for media_id in sessions.world.items.values():
        await one.see_comments(0, media_id)
    for look in (one.see_likes, one.see_following, one.see_media, one.see_profile):
        await look()


async def _until(
    recorded: SessionHistory, write: Callable[[], Awaitable[None]], *, live: bool
) -> None:
    """Likes and follows are ended at times, by chance."""
    while True:
        await write()
        last = recorded.writes[-1]
        if last.outcome is Outcome.DONE and (last.value != GONE) is live:
            return


def found(history: SessionHistory, reads: list[Read]) -> set[Wrong]:
    verdict = judge(SessionHistory(history.writes, reads), late_s=LATE_S)
    return {one for one, texts in verdict.wrong.items() if texts}


def last_write(history: SessionHistory, kind: str, *, live: bool = True) -> Write:
    """The last of this kind by the first session, who was alone then."""
    return next(
        one
        for one in reversed(history.writes)
        if one.session == 0 and one.key[0] == kind and (one.value != GONE) is live
    )


def changed(
    history: SessionHistory, write: Write, change: Change, *, drained: bool
) -> tuple[list[Read], int]:
    """All reads, with those of the write's key after it changed, and how many these are.

    Not drained: only those of the session that wrote it.
    """
    kind, owner, member = write.key
    reads, count = list(history.reads), 0
    for at, read in enumerate(reads):
        after = read.began_s >= write.ended_s and bool(read.drained) == drained
        about = (read.kind, read.owner) == (kind, owner)
        asked = read.asked is None or member in read.asked
        if after and about and asked and (drained or read.session == write.session):
            reads[at] = change(read, write)
            count += 1
    return reads, count


def without(read: Read, write: Write) -> Read:
    rows = tuple(row for row in read.rows if row[0] != write.key[2])
    return replace(read, rows=rows, count=None if read.count is None else len(rows))


def again(read: Read, write: Write) -> Read:
    rows = (*read.rows, (write.key[2], write.value))
    return replace(read, rows=rows, count=None if read.count is None else len(rows))


def with_value(value: Hashable) -> Change:
    return lambda read, write: again(without(read, write), replace(write, value=value))


def test_what_was_recorded_is_right_and_much_of_it(history: SessionHistory) -> None:
    verdict = judge(history, late_s=LATE_S)
    assert verdict.passed, verdict.told()
    assert verdict.acknowledged >= CALLS
    assert verdict.compared > verdict.acknowledged
    assert not any(one.stale for one in history.reads if one.drained)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_write_is_found(history: SessionHistory, kind: str) -> None:
    reads, count = changed(history, last_write(history, kind), without, drained=True)
    assert count
    assert found(history, reads) == {Wrong.LOST}


@pytest.mark.parametrize("kind", ["like", "follow", "comment", "media"])
def test_a_doubled_write_is_found(history: SessionHistory, kind: str) -> None:
    reads, count = changed(history, last_write(history, kind), again, drained=True)
    assert count
    assert found(history, reads) == {Wrong.DOUBLED}


def test_a_write_that_is_counted_twice_is_found(history: SessionHistory) -> None:
    """The list is right, the number beside it is not."""
    at, read = next(
        (at, read) for at, read in enumerate(history.reads) if read.drained and read.count
    )
    reads = list(history.reads)
    reads[at] = replace(read, count=(read.count or 0) + 1)
    assert found(history, reads) == {Wrong.DOUBLED}


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_behind_its_position_is_found(history: SessionHistory, kind: str) -> None:
    reads, count = changed(history, last_write(history, kind), without, drained=False)
    assert count
    assert found(history, reads) == {Wrong.BEHIND}


def test_a_comment_that_was_taken_back_and_is_shown_is_found(history: SessionHistory) -> None:
    ended = last_write(history, "comment", live=False)
    made = next(one for one in history.writes if one.key == ended.key and one.value != GONE)
    change = with_value(made.value)
    reads, count = changed(history, ended, change, drained=False)
    assert count
    assert found(history, reads) == {Wrong.BEHIND}
    reads, count = changed(history, ended, change, drained=True)
    assert count
    assert found(history, reads) == {Wrong.LOST}


def test_another_id_than_was_answered_is_found(history: SessionHistory) -> None:
    reads, count = changed(history, last_write(history, "comment"), with_value(5), drained=True)
    assert count
    assert found(history, reads) == {Wrong.INVENTED}


async def test_a_stale_answer_does_not_pass_for_a_look_at_everything() -> None:
    """It is not judged, so what is looked at is looked at again until it is fresh."""
    recorded = SessionHistory()
    async with serving() as world:
        sessions = await meet(world.address, recorded, people=2)
        try:
            await world.hold(likes.VIEW)
            await sessions.all[0].like()
            looking = asyncio.create_task(sessions.look_at_everything(1))
            async with asyncio.timeout(PATIENCE_S):
                while not any(one.stale for one in recorded.reads):
                    await asyncio.sleep(0.01)
            assert not looking.done()
            world.release(likes.VIEW)
            await looking
        finally:
            await sessions.close()
    fresh = {(one.session, one.kind) for one in recorded.reads if not one.stale}
    assert fresh >= {(one.number, "like") for one in sessions.all}
    assert judge(recorded, late_s=LATE_S).passed
