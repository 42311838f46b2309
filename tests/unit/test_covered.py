"""Nothing older is served than what was."""

import asyncio

import pytest

from millrace.clock import ManualClock
from millrace.errors import StoreUnavailable
from millrace.log.memory import MemoryLog
from millrace.stores.port import PositionRow
from services.covered import Covered
from social.log.v1.progress_pb2 import TopicProgress, ViewProgress


async def tell(log: MemoryLog, view: str, epoch: int, *numbers: int) -> None:
    told = ViewProgress(view=view, epoch=epoch, topics=[TopicProgress(topic=view, numbers=numbers)])
    await log.append("progress", view.encode(), told.SerializeToString(), partition=0)


def stored(view: str, *numbers: int) -> list[PositionRow]:
    return [PositionRow(view, 0, 4096, view, at, 1, 1, number) for at, number in enumerate(numbers)]


async def test_a_view_below_its_highest_position_is_not_served_whatever_its_epoch() -> None:
    log, clock = MemoryLog(2, ManualClock()), ManualClock()
    await tell(log, "likes", 1, 30, 40)
    await tell(log, "likes", 2, 3, 4)
    await tell(log, "media", 1, 7, 0)
    covered = Covered(log, clock)
    await covered.start()
    fine = stored("media", 7, 0)
    covered.look([*stored("likes", 30, 41), *fine])
    covered.check()
    for low in (
        stored("likes", 3, 4),
        stored("likes", 30, 39),
        stored("likes"),
        stored("likes", 30),
    ):
        with pytest.raises(StoreUnavailable, match="likes"):
            covered.look([*low, *fine])
        # Not even a connection is asked for, for a moment.
        with pytest.raises(StoreUnavailable, match="likes"):
            covered.check()
        clock.advance(1_000)
        covered.check()
    await tell(log, "media", 1, 9, 0)
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="media"):
        covered.look([*stored("likes", 30, 40), *fine])
    await covered.close()
