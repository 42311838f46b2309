"""SIGKILL of servers and processes under recorded traffic, alone, in pairs, and while they recover.

Nothing that was acknowledged is lost or doubled, no read is behind its session, and the views
equal a replay of the log. The long forms have servers of their own; the short one has a PostgreSQL
and a memcached of its own, and the session's other servers.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import StackStatus
from deploy.local.watch import RestartPolicy
from tests.fault_rounds import FaultRounds, fault_rounds
from tests.running import PatientStack

# On a quiet machine the slowest, Cassandra, is back after 15 s; with ten times the work, after 150.
BOUND_S = 400.0
_TEST_S = 1_500
SERVERS = ("kafka", "cassandra", "postgres", "memcached")
# What they log in the midst of a start after a kill; the others have nothing to recover.
SIGNS_OF_RECOVERY = {
    "kafka": "Performing controller activation",
    "cassandra": "Replaying ",
    "postgres": "automatic recovery in progress",
}
OURS = ("grpc-0", "projector", "fanout", "sweeper")
# One that is back within a look was not met amid its start.
_TRIES_AMID = 3
_RESTARTS = RestartPolicy(restarts_a_minute_max=100)


@asynccontextmanager
async def own_servers(folder: Path, *names: str) -> AsyncIterator[LocalStack]:
    settings = StackSettings(folder, servers=names, usual_ports=False, restarts=_RESTARTS)
    async with PatientStack(settings) as own:
        yield own


@pytest.mark.timeout(_TEST_S)
async def test_processes_and_two_servers_killed_at_once(
    stack: StackStatus, data_dir: Path, tmp_path: Path
) -> None:
    async with own_servers(data_dir, "postgres", "memcached") as own:
        addresses = {name: own.addresses[name] for name in ("postgres_dsn", "memcached_addresses")}
        async with fault_rounds(stack, own, tmp_path, **addresses) as rounds:
            names = ("postgres", "memcached", "grpc-0", "projector", "fanout")

            async def fault() -> None:
                rounds.kill(*names)

            await rounds.meet(" and ".join(names), fault, bound_s=BOUND_S)


@pytest.fixture(scope="module")
async def rounds(module_folder: Path) -> AsyncIterator[FaultRounds]:
    async with (
        own_servers(module_folder / "data", *SERVERS) as own,
        fault_rounds(own.status(), own, module_folder) as prepared,
    ):
        yield prepared


@pytest.mark.slow
@pytest.mark.timeout(_TEST_S)
@pytest.mark.parametrize("name", [*SERVERS, *OURS])
async def test_killed_alone(rounds: FaultRounds, name: str) -> None:
    async def fault() -> None:
        rounds.kill(name)

    await rounds.meet(name, fault, bound_s=BOUND_S)


PAIRS = [*itertools.combinations(SERVERS, 2), *itertools.product(SERVERS, OURS)]
PAIRS += [*itertools.combinations(OURS, 2), ("grpc-0", "grpc-1")]


@pytest.mark.slow
@pytest.mark.timeout(_TEST_S)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_killed_in_pairs(rounds: FaultRounds, pair: tuple[str, str]) -> None:
    async def fault() -> None:
        rounds.kill(*pair)

    await rounds.meet(" and ".join(pair), fault, bound_s=BOUND_S)


@pytest.mark.slow
@pytest.mark.timeout(_TEST_S)
@pytest.mark.parametrize("name", [*SERVERS, *OURS])
async def test_killed_again_while_it_recovers(rounds: FaultRounds, name: str) -> None:
    """Once in the midst of it; then as soon as it is ready: its clients are just coming back."""

    async def fault() -> None:
        for _ in range(_TRIES_AMID):
            rounds.kill(name)
            if await rounds.recovering(name, SIGNS_OF_RECOVERY.get(name, "")):
                break
        else:
            pytest.fail(f"{name} was ready before it was ever seen amid its start")
        rounds.kill(name)
        await rounds.ready(name)
        rounds.kill(name)

    await rounds.meet(f"{name} again while it recovers, and again", fault, bound_s=BOUND_S)
