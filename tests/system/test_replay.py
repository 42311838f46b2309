"""`millrace replay` on the real stack, under calls: killed at each of its steps, and switched to
and fro; no call is refused, and what is served in the end is what the log says.
"""

import asyncio
import os
import signal
import sys

import pytest

from cli.processes import ROOT
from millrace.log.partitioner import key_of
from millrace.log.port import NewRecord
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from tests.running import RunningMillrace, running_millrace
from tests.system.test_faults import equal, some_life
from tests.system.test_from_nothing import FINE, Asking, command, environment_of
from tests.system.test_main_job import like, picture

__all__ = ["running_millrace"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIKES = 20_000
SWITCHES = 10
STEPS = ("copying", "keys and counts", "applying what came again", "settling", "comparing")


async def many_likes(millrace: RunningMillrace, media_id: int) -> None:
    """Of one item by people who are in no view, every tenth of whom goes and comes again."""

    def records() -> list[NewRecord]:
        made = []
        for user in range(1_000_000, 1_000_000 + LIKES):
            liked = LikesEvent(liked=MediaLiked(user_id=user, media_id=media_id, at_ms=user))
            gone = LikesEvent(unliked=MediaUnliked(user_id=user, media_id=media_id, at_ms=user))
            events = [liked, gone, liked] if user % 10 == 0 else [liked]
            made += [NewRecord(key_of(user), event.SerializeToString()) for event in events]
        return made

    await millrace.stores.log.append_many("likes", records())


async def killed_at(millrace: RunningMillrace, step: str) -> bool:
    """Starts a replay and kills it when it tells the step; False where it ended before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "replay", "likes", "--no-switch"),
        cwd=ROOT,
        env={**os.environ, **environment_of(millrace)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async for line in process.stderr:
        if f"likes: {step}" in line.decode():
            process.send_signal(signal.SIGKILL)
            break
    return await process.wait() == -signal.SIGKILL


async def test_a_replay_killed_at_each_step_and_switched_under_calls(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    ana, ben = await some_life(millrace, "ana", "ben")
    item = await millrace.client.upload(ana, picture(7), "much liked")
    await many_likes(millrace, item.id)
    await millrace.process_all()
    asking = Asking(millrace.installation.grpc_address, ana, "ana", media_id=item.id)
    running = asyncio.create_task(asking.run())
    await asking.until(FINE)

    for step in STEPS:
        assert await killed_at(millrace, step), step
    await command(millrace, "millrace replay likes")
    for _ in range(SWITCHES):
        await command(millrace, "millrace replay likes --rollback")
        await like(millrace.client, ben, item.id)
    await command(millrace, "millrace replay likes --status")
    await command(millrace, "millrace replay likes --drop-old")
    await command(millrace, "millrace replay all")
    running.cancel()
    print(dict(asking.answers))

    assert set(asking.answers) == {FINE}
    await equal(millrace, dead=0)


async def test_a_wrong_name_is_told(running_millrace: RunningMillrace) -> None:
    with pytest.raises(AssertionError, match="unknown view 'like'; there are vault, users"):
        await command(running_millrace, "millrace replay like")
