"""Several recorded sessions at once.

    sessions = await meet(address, history)      registered, logged in, with an item each to like
    async with sessions.calling(): …             every session calls, one call after another
    await sessions.look_at_everything(drained=1)

Each person has two sessions, so that writes of one owner meet.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from millrace.client import Client
from tests.session_history import SessionHistory, Write
from tests.session_recorder import BASE, RecordedSession, World
from tests.system.test_main_job import picture

PASSWORD = "correct horse"
PEOPLE = 4
# Between two calls of a session.
_PAUSE_S = (0.02, 0.2)
_DEADLINE_S = 10.0


class RecordedSessions:
    """All of them. `answered`: by session, its acknowledged writes so far."""

    def __init__(self, all_: list[RecordedSession], world: World) -> None:
        self.all = all_
        self.world = world

    @property
    def answered(self) -> list[int]:
        return [one.answered for one in self.all]

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Until left; then each call ends by itself."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for one in self.all:
                tasks.create_task(_call_until(one, over))
            try:
                yield
            finally:
                over.set()

    async def look_at_everything(self, drained: int) -> None:
        """Each look until it is answered, and not as `stale`: else nothing would be judged."""
        for one in self.all:
            for look in (
                one.see_likes, one.see_following, one.see_media, one.see_feed, one.see_profile,
            ):  # fmt: skip
                await self._look(partial(look, drained))
        for media_id in self.world.items.values():
            for one in self.all[:2]:
                await self._look(partial(one.see_comments, drained, media_id))
                await self._look(partial(one.see_likers, drained, media_id))

    async def _look(self, look: Callable[[], Awaitable[None]]) -> None:
        history = self.world.history
        seen = False
        while not seen:
            reads, unanswered = len(history.reads), history.unanswered
            await look()
            stale = any(read.stale for read in history.reads[reads:])
            seen = not stale and history.unanswered == unanswered

    async def close(self) -> None:
        for one in self.all:
            await one.client.close()


async def meet(address: str, history: SessionHistory, *, people: int = PEOPLE) -> RecordedSessions:
    """New people with an item each, and two sessions each."""
    world = World(history)
    sessions = []
    for person in range(people):
        handle = f"rec{person}"
        for number in (2 * person, 2 * person + 1):
            client = Client(
                address, connections=2, deadline_s=_DEADLINE_S, transfer_deadline_s=_DEADLINE_S
            )
            if number % 2:
                session = await client.log_in(handle, PASSWORD)
            else:
                session = await client.register(handle, PASSWORD)
                world.record.acknowledged.registered[session.user_id] = handle
            sessions.append(RecordedSession(number, client, session, world))
        first = sessions[2 * person]
        caption = f"{BASE}{person}"
        item = await first.client.upload(first.session, picture(person), caption)
        world.items[first.me] = item.id
        now_s = time.monotonic()
        key = ("caption", first.me, item.id)
        history.writes.append(Write(first.number, key, caption, now_s, now_s, for_all=True))
    return RecordedSessions(sessions, world)


async def _call_until(one: RecordedSession, over: asyncio.Event) -> None:
    while not over.is_set():
        await one.call_once()
        await asyncio.sleep(random.uniform(*_PAUSE_S))
