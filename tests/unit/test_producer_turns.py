"""Appends that come together go together, and one that comes alone waits for nothing."""

import asyncio

from millrace.log.producer import Turns


async def test_who_comes_alone_has_his_turn_at_once() -> None:
    gone: list[list[int]] = []
    turns: Turns[int] = Turns(3_600, lambda turn: gone.append([*turn]))
    for number in range(3):
        turns.add(number)
        turns.end()
    assert gone == [[0], [1], [2]]


async def test_who_comes_within_the_pause_goes_with_all_others_in_their_order() -> None:
    gone: list[list[int]] = []
    turns: Turns[int] = Turns(3_600, lambda turn: gone.append([*turn]))
    for number in range(5):
        turns.add(number)
    assert gone == [[0]]
    turns.begin()
    assert gone == [[0], [1, 2, 3, 4]]


async def test_a_pause_ends() -> None:
    gone = asyncio.Event()
    turns: Turns[int] = Turns(0.001, lambda turn: gone.set() if 2 in turn else None)
    for number in range(3):
        turns.add(number)
    await gone.wait()
