"""Random calls on the real servers, several callers at once, against the oracle.

Each lane has users of its own and one caller after another, so that every answer is known
exactly while the lanes load the same processes. At the end the log says what the calls said.
Which seeds: as in `tests/contract/test_operations.py`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
import pytest

from deploy.local.status import StackStatus
from millrace.clock import SystemClock
from millrace.log.control import Control
from millrace.log.position_token import decode
from millrace.views import VIEWS
from services.freshness import Positions
from tests.against_oracle import SETTINGS, Lane, Target, fresh_seed, seeds
from tests.contract.test_operations import told
from tests.operations import WEIGHTS
from tests.oracle_differences import differences, whole, wrong_times
from tests.running import RunningMillrace, running

LANES = 4
SHORT, KILLED, LONG = 400, 3_000, 20_000
COVERED_S = 60.0
CHANNELS = 4
SEEDS = seeds(1, 2)
LONG_SEEDS = (3, 4)
# What so many calls must have met.
REASONS = {
    "COMMENT_NOT_FOUND", "CREDENTIALS_INVALID", "FOLLOWEES_LIMIT", "HANDLE_TAKEN", "INVALID_FIELD",
    "MEDIA_BROKEN", "MEDIA_EMPTY", "MEDIA_NOT_FOUND", "MEDIA_SIZE_DIFFERS",
    "MEDIA_TYPE_UNSUPPORTED", "NOT_THE_AUTHOR", "OLD_PASSWORD_WRONG", "PAGE_TOKEN_INVALID",
    "PAGE_TOKEN_OF_ANOTHER_LIST", "RECORDING_OUT_OF_SEQUENCE", "RECORDING_REQUEST_ID_CHANGED",
    "REFRESH_TOKEN_INVALID", "REFRESH_TOKEN_REUSED", "RENDITION", "REQUEST_ID_REUSED", "SELF",
    "SESSION_ENDED", "TOKEN_INVALID", "TOKEN_MISSING", "UNIMPLEMENTED", "UPLOAD_OUT_OF_ORDER",
    "USER_DEACTIVATED", "USER_NOT_FOUND",
}  # fmt: skip


@dataclass
class Played:
    """A Millrace and all that was ever played on it."""

    millrace: RunningMillrace
    target: Target
    lanes: list[Lane] = field(default_factory=list)

    async def play(self, seed: int, operations: int) -> Counter[tuple[str, str]]:
        """Raises Mismatch."""
        first = len(self.lanes)
        lanes = [Lane(self.target, seed=seed, lane=first + number) for number in range(LANES)]
        self.lanes += lanes
        started_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.play(operations // LANES))
        played_s = time.monotonic() - started_s
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.look_at_all())
        counts = sum((lane.counts for lane in lanes), Counter[tuple[str, str]]())
        print(f"\nseed {seed}: {operations} operations in {played_s:.0f} s", end="")
        told(counts, sum((lane.tried_again for lane in lanes), Counter[str]()))
        history = await self.millrace.history()
        assert not differences(whole([lane.answers.state for lane in self.lanes]), history.oracle)
        assert not any(wrong_times(lane.created, history.oracle) for lane in lanes)
        assert not any(history.dead_letters.values())
        return counts


@pytest.fixture(scope="module")
async def played(
    stack: StackStatus, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    folder = tmp_path_factory.mktemp("oracle")
    # Hashes of passwords are not what is tested here.
    changed = {**SETTINGS, "argon2_memory_kib": 64, "argon2_time_cost": 1}
    async with running(stack, folder, **changed) as millrace:
        control = Control(millrace.stores.log)
        await control.catch_up()
        identity = control.identity
        positions = Positions(millrace.stores.views, SystemClock(), millrace.settings)

        async def cover(tokens: Sequence[str]) -> None:
            for text in tokens:
                token = decode(text, identity.key("position token"), identity.log_id)
                for view in VIEWS:
                    needs = token.needs(view.topics)
                    assert await positions.covers(view.name, needs, COVERED_S), view.name

        # A connection sticks to one server process: several meet them all.
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = millrace.installation.grpc_address
        channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        yield Played(millrace, Target(channels, cover))
        for channel in channels:
            await channel.close()
        await positions.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_random_calls_are_answered_as_the_oracle_says(played: Played, seed: int) -> None:
    await played.play(seed, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_random_calls_while_processes_are_killed(played: Played) -> None:
    """A call that is cut is made again with its request_id, and is answered as if nothing was."""
    millrace = played.millrace
    playing = asyncio.create_task(played.play(5, KILLED))
    kills = 0
    while not playing.done():
        for name in millrace.names:
            await millrace.kill(name)
            kills += 1
    await playing
    print(f"{kills} kills")
    # The kills must have met calls, or this test shows nothing.
    assert kills >= len(millrace.names)
    assert sum(lane.tried_again.total() for lane in played.lanes[-LANES:])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", LONG_SEEDS)
async def test_twenty_thousand_random_calls(played: Played, seed: int) -> None:
    await play_long(played, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_twenty_thousand_random_calls_that_nobody_has_tried(played: Played) -> None:
    await play_long(played, fresh_seed())


async def play_long(played: Played, seed: int) -> None:
    counts = await played.play(seed, LONG)
    answered = {method for method, outcome in counts if outcome == "OK"}
    assert answered == set(WEIGHTS)
    reasons = {outcome.split()[-1] for _, outcome in counts}
    assert reasons >= REASONS
