"""SIGKILL under traffic: nothing acknowledged is lost or doubled, and every view is right."""

import asyncio

import pytest

from millrace.traffic.actors import Cast
from millrace.traffic.plan import make_plan
from millrace.traffic.run import Post, Traffic
from tests.replayed import differences, replay
from tests.running import RunningMillrace, running_millrace
from tests.system.test_main_job import picture

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(300)

PEOPLE = 30
RATE = 20.0
SECONDS = 240.0


async def test_every_process_killed_alone_and_all_at_once(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    following = [[(i + step) % PEOPLE for step in (1, 2, 3, 7)] for i in range(PEOPLE)]
    ids = await millrace.people(following)
    plan = make_plan(following, seed=11, seconds=SECONDS, rate=RATE, actors=10)
    cast = Cast(millrace.client, ids, run=".k")
    posts = [Post(picture(shade), f"shade {shade}") for shade in range(20)]
    traffic = Traffic(millrace.client, cast, plan, posts)
    running = asyncio.create_task(traffic.run())
    kills = 0
    for name in millrace.names:
        await millrace.kill(name)
        kills += 1
    await millrace.kill(*millrace.names)
    kills += len(millrace.names)
    # The kills must have met traffic, or this test shows nothing.
    assert not running.done()
    traffic.stop()
    record = await running

    sessions = [actor.session for actor in cast.online()]
    for check in await millrace.all_checks(sessions, record):
        assert check.passed, check
        print(f"{check.claim}: {check.examined} examined, {check.wrong_count} wrong")
    views, log = millrace.stores.views, millrace.stores.log
    log_id = (await views.positions("likes"))["likes", 0].log_id
    replayed, dead = await replay(log, millrace.keys, log_id)
    assert await differences(views, replayed) == []
    assert dead == 0
    print(f"{kills} kills, {record.tally.ended} calls")
