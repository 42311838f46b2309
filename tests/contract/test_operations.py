"""Random calls through a real gRPC server on the memory twins, against the oracle.

`make test` plays the same calls each time. The slow test draws a seed, and any test plays the one
that you name, which is how a failure is played again: its message names the seed.

    MILLRACE_TEST_SEED=7 pytest tests/contract/test_operations.py
"""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from millrace.log.position_token import decode
from millrace.traffic.history import read_history
from millrace.views import VIEWS
from services.catalogue import services_of
from tests.against_oracle import SETTINGS, Lane, Mismatch, Target, fresh_seed, seeds
from tests.operation_calls import Outcome
from tests.operations import WEIGHTS, Operation, snake
from tests.oracle_differences import differences, whole, wrong_times
from tests.serving import World, serving

OPERATIONS = 600
COVERED_S = 30.0
# Changes an answer, and says whether it did.
Lie = Callable[[Any], bool]
SEEDS = seeds(1, 2)


def target_of(world: World) -> Target:
    identity = world.parts.control.identity
    key = identity.key("position token")

    async def cover(tokens: Sequence[str]) -> None:
        for token in (decode(text, key, identity.log_id) for text in tokens):
            for view in VIEWS:
                needs = token.needs(view.topics)
                assert await world.parts.positions.covers(view.name, needs, COVERED_S), view.name

    return Target([world.channel], cover)


@asynccontextmanager
async def playing(seed: int) -> AsyncIterator[tuple[World, Lane]]:
    async with serving(**SETTINGS) as world:
        yield world, Lane(target_of(world), seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_calls_are_answered_as_the_oracle_says(seed: int) -> None:
    await play(seed)


@pytest.mark.slow
async def test_random_calls_that_nobody_has_tried() -> None:
    await play(fresh_seed())


async def play(seed: int) -> None:
    async with playing(seed) as (world, lane):
        await lane.play(OPERATIONS)
        await lane.look_at_all()
        history = await read_history(world.log, world.parts.keys.master)
    told(lane.counts, lane.tried_again)
    assert not differences(whole([lane.answers.state]), history.oracle)
    assert not wrong_times(lane.created, history.oracle)


def _more_likes(answer: Any) -> bool:
    for item in list(getattr(answer, "items", ()))[:1]:
        item.likes_count += 1
        return True
    return False


def _a_row_less(answer: Any) -> bool:
    rows: Any = getattr(answer, "users", ())
    if rows:
        del rows[0]
        return True
    return False


def _another_order(answer: Any) -> bool:
    rows: Any = getattr(answer, "items", ())
    if len(rows) > 1:
        first = type(rows[0])()
        first.CopyFrom(rows[0])
        rows.append(first)
        del rows[0]
        return True
    return False


def _the_end_too_early(answer: Any) -> bool:
    told_more = bool(getattr(answer, "next_page_token", ""))
    if told_more:
        answer.next_page_token = ""
    return told_more


def _another_time(answer: Any) -> bool:
    for user in list(getattr(answer, "users", ()))[:1]:
        if hasattr(user, "created_at"):
            user.created_at.nanos = secrets.randbelow(10**9)
            return True
    return False


def _an_id_of_before(answer: Any) -> bool:
    if hasattr(answer, "comment"):
        answer.comment.id = 1
    return hasattr(answer, "comment")


class Lying(Lane):
    """Without a `lie` a refusal is told as another."""

    def __init__(self, target: Target, lie: Lie | None) -> None:
        super().__init__(target, seed=1)
        self.lie = lie
        self.lies = 0

    async def call(self, operation: Operation) -> Outcome:
        outcome = await super().call(operation)
        if self.lie is None and outcome.refused:
            self.lies += 1
            return Outcome(refused="NOT_FOUND SOMETHING_ELSE")
        if self.lie is not None and outcome.answer is not None:
            self.lies += self.lie(outcome.answer)
        return outcome


# How many it may tell until it is found out: a time is known after the first look at a user, and
# of all comments the first may have any id.
LIES: dict[Lie | None, int] = {
    _more_likes: 1,
    _a_row_less: 1,
    _another_order: 1,
    _the_end_too_early: 1,
    _another_time: 10,
    _an_id_of_before: 2,
    None: 1,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_lies_is_found_out(lie: Lie | None) -> None:
    async with serving(**SETTINGS) as world:
        lane = Lying(target_of(world), lie)
        with pytest.raises(Mismatch, match=r"seed 1, lane 0, step \d+: \w+\("):
            await lane.play(OPERATIONS)
    assert lane.lies <= LIES[lie]


async def test_every_rpc_that_is_served_is_played() -> None:
    async with serving() as world:
        served = {
            method.name
            for service in services_of(world.parts)
            for method in service.descriptor.methods
            if hasattr(service.servicer, snake(method.name))
        }
    assert served == set(WEIGHTS)


def told(counts: Counter[tuple[str, str]], tried_again: Counter[str]) -> None:
    print(f"\n{counts.total()} calls, tried again: {dict(tried_again)}")
    for (method, outcome), count in sorted(counts.items()):
        print(f"{count:7} {method:16} {outcome}")
