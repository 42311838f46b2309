"""Mixed calls of a few people at a steady rate, which go on for as long as a test looks.

async with steady_traffic(millrace, seed=5, rate=30.0) as playing: …
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace.traffic.actors import Cast
from millrace.traffic.plan import make_plan
from millrace.traffic.run import Post, Traffic
from tests.running import RunningMillrace
from tests.system.test_main_job import picture

PEOPLE = 30
ACTORS = 10
# Longer than any test that takes it.
SECONDS = 3_600.0


@asynccontextmanager
async def steady_traffic(
    millrace: RunningMillrace, *, seed: int, rate: float
) -> AsyncIterator[Traffic]:
    """`rate`: calls a second. Once a RunningMillrace; ended, with its record, when it is left."""
    following = [[(i + step) % PEOPLE for step in (1, 2, 3, 7)] for i in range(PEOPLE)]
    ids = await millrace.people(following)
    plan = make_plan(following, seed=seed, seconds=SECONDS, rate=rate, actors=ACTORS)
    posts = [Post(picture(shade), f"shade {shade}") for shade in range(20)]
    playing = Traffic(millrace.client, Cast(millrace.client, ids, run=".t"), plan, posts)
    running = asyncio.create_task(playing.run())
    try:
        yield playing
        # What was looked at must have met traffic, or the test shows nothing.
        assert not running.done()
    finally:
        playing.stop()
        await running
