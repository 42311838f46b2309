"""What a session stands by: claims of access tokens, generations, looks at the log's end."""

import asyncio
from pathlib import Path

import jwt
import pytest

from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import Keys, ensure_keys
from millrace.auth.refresh_token import new_family
from millrace.clock import ManualClock
from millrace.log.memory import MemoryLog
from millrace.settings import Settings
from millrace.views import renaming
from millrace.views.renaming import Step
from millrace.views.users import Cited, UserRow
from millrace.views.vault import SessionState
from services.log_ends import LogEnds

FAMILY = b"f" * 16
OLD, NEW, OTHER = Cited(b"old", 7), Cited(b"new", 9), Cited(b"other", 7)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder: Path = tmp_path_factory.mktemp("keys")
    return ensure_keys(str(folder))


def claims(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def test_an_access_token_says_its_generation_and_whether_it_is_restricted(keys: Keys) -> None:
    tokens = AccessTokens(Settings(), ManualClock(), keys)
    caller = tokens.verify(tokens.issue(7, FAMILY, 3 << 48, restricted=True)[0])
    assert (caller.sessions_generation, caller.restricted) == (3 << 48, True)


def test_a_token_of_before_generations_is_of_the_first(keys: Keys) -> None:
    tokens = AccessTokens(Settings(), ManualClock(), keys)
    token, _ = tokens.issue(7, FAMILY)
    assert not {"ses", "res"} & set(claims(token))
    caller = tokens.verify(token)
    assert (caller.sessions_generation, caller.restricted) == (0, False)


def test_a_family_knows_the_generation_it_began_under() -> None:
    assert new_family(1, 1, 5)[1].sessions_generation == 5


@pytest.mark.parametrize(
    ("state", "stands"),
    [
        (SessionState(revoked=False, generation=0), True),
        (SessionState(revoked=False, generation=5), True),
        (SessionState(revoked=False, generation=6), False),
        (SessionState(revoked=True, generation=0), False),
    ],
)
def test_a_session_stands_until_a_later_end(state: SessionState, stands: bool) -> None:
    assert state.stands(5) is stands


def row(cites: Cited) -> UserRow:
    return UserRow(1, "ana", "", "", 0, deactivated=False, cites=cites)


@pytest.mark.parametrize(
    ("cites", "step"),
    [(OLD, Step.CHANGE), (NEW, Step.FREE_OLD), (OTHER, Step.FREE_DEAD)],
)
def test_what_a_claim_needs_next_follows_from_what_its_user_cites(cites: Cited, step: Step) -> None:
    assert renaming.next_step(row(cites), NEW, OLD) is step


def test_a_claim_of_nobody_is_dead() -> None:
    assert renaming.next_step(None, NEW, OLD) is Step.FREE_DEAD


async def test_looks_at_the_log_s_end_are_shared_and_apart() -> None:
    log, clock = MemoryLog(), ManualClock()
    begun: list[float] = []
    ends = log.ends

    async def look(topic: str) -> list[int]:
        begun.append(clock.monotonic_s())
        return list(await ends(topic))

    log.ends = look  # type: ignore[method-assign]
    shared = LogEnds(log, clock, interval_ms=20)
    for _ in range(3):
        found = await asyncio.gather(*(shared.of("vault") for _ in range(50)))
        assert all(len(one) == log.partitions for one in found)
    assert begun == [0.0, 0.02, 0.04]
