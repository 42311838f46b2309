"""Random calls through a real gRPC server on the memory twins, against the oracle."""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from millrace.log.position_token import decode
from millrace.traffic.history import read_history
from millrace.views import VIEWS
from services.catalogue import services_of
from tests.against_oracle import Lane, Mismatch, Target, differences, whole
from tests.operations import WEIGHTS, snake
from tests.serving import World, serving

OPERATIONS = 800
FOLLOWEES_MAX = 5
COVERED_S = 30.0
# A fixed seed, and one that nobody has tried: the failure names it.
SEEDS = (1, secrets.randbelow(1 << 32))


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
    # Sessions and tokens must not end by themselves: the model has no clock.
    async with serving(followees_max=FOLLOWEES_MAX, refresh_grace_s=10**6) as world:
        yield world, Lane(target_of(world), seed=seed, followees_max=FOLLOWEES_MAX)


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_calls_are_answered_as_the_oracle_says(seed: int) -> None:
    async with playing(seed) as (world, lane):
        await lane.play(OPERATIONS)
        await lane.look_at_all()
        history = await read_history(world.log, world.parts.keys.master)
    told(lane.counts, lane.tried_again)
    assert not differences(whole([lane]), history.oracle)


async def test_a_server_that_differs_from_the_model_is_found_out() -> None:
    async with playing(SEEDS[0]) as (_, lane):
        lane.answers.followees_max += 1
        with pytest.raises(Mismatch, match=r"seed 1, lane 0, step \d+: Follow\("):
            await lane.play(OPERATIONS)


async def test_every_rpc_that_is_served_is_played() -> None:
    async with serving() as world:
        served = {
            method.name
            for service in services_of(world.parts)
            for method in service.descriptor.methods
            if hasattr(service.servicer, snake(method.name))
        }
    assert served == set(WEIGHTS)


def told(counts: Counter[tuple[str, str]], tried_again: int) -> None:
    print(f"\n{counts.total()} calls, {tried_again} tried again")
    for (method, outcome), count in sorted(counts.items()):
        print(f"{count:7} {method:16} {outcome}")
