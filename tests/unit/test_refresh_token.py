"""Rotation of refresh tokens: no lock, no lost session, no use of a copied token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.auth import refresh_token
from millrace.errors import Unauthenticated
from social.log.v1.vault_pb2 import RefreshFamily

NOW_MS = 1_750_000_000_000
GRACE_S = 60
USER = 7


def family(generation: int = 1) -> tuple[bytes, RefreshFamily]:
    name, state = refresh_token.new_family(NOW_MS, 3600)
    state.generation = generation
    return name, state


def shown(name: bytes, state: RefreshFamily, generation: int) -> refresh_token.RefreshToken:
    past = RefreshFamily()
    past.CopyFrom(state)
    past.generation = generation
    return refresh_token.parse(refresh_token.token_of(USER, name, past))


def reason_of(name: bytes, state: RefreshFamily, generation: int, now_ms: int = NOW_MS) -> str:
    with pytest.raises(Unauthenticated) as refused:
        refresh_token.rotate(state, shown(name, state, generation), now_ms, GRACE_S)
    return refused.value.reason


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**32 - 2))
def test_a_token_says_whose_it_is(user_id: int, generation: int) -> None:
    name, state = family(generation)
    token = refresh_token.parse(refresh_token.token_of(user_id, name, state))
    assert (token.user_id, token.family, token.generation) == (user_id, name, generation)


@given(st.text(max_size=120))
def test_what_is_no_token_is_invalid(text: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        refresh_token.parse(text)
    assert refused.value.reason == "REFRESH_TOKEN_INVALID"


def test_concurrent_rotations_give_equal_tokens() -> None:
    name, state = family()
    token = shown(name, state, 1)
    first = refresh_token.rotate(state, token, NOW_MS + 1, GRACE_S)
    second = refresh_token.rotate(state, token, NOW_MS + 2, GRACE_S)
    assert first.token == second.token
    assert first.changed
    assert first.state.generation == second.state.generation == 2


def test_a_lost_answer_is_answered_again_for_a_while() -> None:
    name, state = family()
    rotated = refresh_token.rotate(state, shown(name, state, 1), NOW_MS, GRACE_S)
    again = refresh_token.rotate(
        rotated.state, shown(name, state, 1), NOW_MS + GRACE_S * 1000, GRACE_S
    )
    assert again.token == rotated.token
    assert not again.changed
    late_ms = NOW_MS + GRACE_S * 1000 + 1
    assert reason_of(name, rotated.state, 1, late_ms) == refresh_token.REUSED


def test_an_older_token_is_a_copy() -> None:
    name, state = family(generation=5)
    assert reason_of(name, state, 3) == refresh_token.REUSED


def test_a_newer_token_than_the_view_knows_goes_on_from_itself() -> None:
    name, state = family(generation=5)
    rotation = refresh_token.rotate(state, shown(name, state, 7), NOW_MS, GRACE_S)
    assert rotation.state.generation == 8


def test_an_ended_family_answers_nothing() -> None:
    name, state = family()
    assert reason_of(name, state, 1, NOW_MS + 3600 * 1000) == "SESSION_ENDED"
    state.revoked = True
    assert reason_of(name, state, 1) == "SESSION_ENDED"


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_changed_byte_makes_it_invalid(index: int, flip: int) -> None:
    name, state = family()
    token = shown(name, state, 1)
    mac = bytearray(token.mac)
    mac[index % len(mac)] ^= flip
    other = refresh_token.RefreshToken(USER, name, 1, bytes(mac))
    with pytest.raises(Unauthenticated) as refused:
        refresh_token.rotate(state, other, NOW_MS, GRACE_S)
    assert refused.value.reason == "REFRESH_TOKEN_INVALID"


@given(st.lists(st.sampled_from(["rotate", "repeat", "concurrent"]), max_size=20))
def test_an_honest_client_never_loses_its_session(steps: list[str]) -> None:
    """Whatever answers get lost within the grace, and whichever of two rotations is written."""
    name, state = family()
    text = refresh_token.token_of(USER, name, state)
    now_ms = NOW_MS
    for step in steps:
        now_ms += 1_000
        token = refresh_token.parse(text)
        first = refresh_token.rotate(state, token, now_ms, GRACE_S)
        if step == "repeat":
            first = refresh_token.rotate(first.state, token, now_ms, GRACE_S)
        if step == "concurrent":
            second = refresh_token.rotate(state, token, now_ms + 1, GRACE_S)
            assert second.token == first.token
            first = second
        state, text = first.state, first.token
