"""Appends that come together go together, and one that comes alone waits for nothing."""

import asyncio

from millrace.log.producer import Turns


async def test_who_comes_alone_has_his_turn_at_once() -> None:
    turns = Turns(pause_s=3_600)
    for _ in range(3):
        turn = asyncio.ensure_future(turns.next())
        await asyncio.sleep(0)
        assert turn.done()
        turns.end()


async def test_who_comes_within_the_pause_goes_with_all_others_in_their_order() -> None:
    turns = Turns(pause_s=3_600)
    await turns.next()
    gone: list[int] = []

    async def come(number: int) -> None:
        await turns.next()
        gone.append(number)

    waiting = [asyncio.create_task(come(number)) for number in range(4)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not gone
    waiting[1].cancel()
    turns.begin()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert gone == [0, 2, 3]


async def test_a_pause_ends() -> None:
    turns = Turns(pause_s=0.001)
    for _ in range(3):
        await turns.next()
