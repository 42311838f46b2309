"""User ids from many processes on one log, however their steps interleave."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.errors import FailedPrecondition, OutcomeUnknown
from millrace.log.control import Control, read_identity
from millrace.log.create import start_log
from millrace.log.memory import MemoryLog
from millrace.log.port import Appended
from millrace.log.user_ids import UserIds
from social.log.v1.control_pb2 import ControlEvent, LogStarted, UserIdsLeased

BLOCK = 5


class SlowLog(MemoryLog):
    """Others run before and after each step; some acknowledgements get lost."""

    def __init__(self, seed: int, lost: float) -> None:
        super().__init__(1, ManualClock())
        self._random = random.Random(seed)
        self._lost = lost

    async def append(self, topic: str, key: bytes, value: bytes | None, **more: object) -> Appended:
        await self._pause()
        appended = await super().append(topic, key, value)
        await self._pause()
        if self._random.random() < self._lost:
            raise OutcomeUnknown("lost")
        return appended

    async def ends(self, topic: str) -> list[int]:
        await self._pause()
        return await super().ends(topic)

    async def _pause(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)


async def take(ids: UserIds, count: int) -> list[int]:
    taken: list[int] = []
    while len(taken) < count:
        try:
            taken.append(await ids.next_id())
        except OutcomeUnknown:
            continue
    return taken


async def started(log: MemoryLog) -> None:
    while True:
        try:
            await start_log(log, ManualClock(), BLOCK)
        except OutcomeUnknown:
            continue
        return


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 17), st.sampled_from([0, 0.3]))
def test_no_id_is_handed_out_twice(seed: int, processes: int, each: int, lost: float) -> None:
    async def run() -> list[int]:
        log = SlowLog(seed, lost)
        await started(log)
        all_ids = [UserIds(log, Control(log)) for _ in range(processes)]
        taken = await asyncio.gather(*(take(ids, each) for ids in all_ids for _ in range(2)))
        return [user_id for some in taken for user_id in some]

    taken = asyncio.run(run())
    assert len(set(taken)) == len(taken) == processes * each * 2
    assert min(taken) >= 1
    if not lost:
        # Dense: at most one block a process is begun and not used up.
        assert max(taken) < len(taken) + 1 + processes * BLOCK


async def test_the_first_claim_of_a_block_wins() -> None:
    log = MemoryLog(1)
    await started(log)
    control = Control(log)
    ours, theirs = control.blocks_won(b"ours"), control.blocks_won(b"theirs")
    for block, claimant in ((0, b"theirs"), (0, b"ours"), (1, b"ours"), (1, b"theirs")):
        event = ControlEvent(user_ids_leased=UserIdsLeased(block=block, claimant=claimant))
        await log.append("control", claimant, event.SerializeToString())
    await log.append("control", b"x", b"\xff\xff not an event")
    await control.catch_up()
    assert (list(ours), list(theirs), control.free_block) == ([1], [0], 2)


async def test_a_log_without_its_first_record_says_so() -> None:
    log = MemoryLog(1)
    with pytest.raises(FailedPrecondition) as refused:
        await read_identity(log)
    assert refused.value.reason == "LOG_NOT_STARTED"


async def test_a_second_start_is_void() -> None:
    log = MemoryLog(1)
    for seed, block in ((b"first", 7), (b"second", 8)):
        event = ControlEvent(log_started=LogStarted(seed=seed, user_id_block=block))
        await log.append("control", b"log", event.SerializeToString())
    identity = await read_identity(log)
    assert (identity.seed, identity.user_id_block) == (b"first", 7)
    assert identity.key("a") != identity.key("b")
