"""Refresh tokens: derived, never stored.

A session is a family: a secret and the generation of the token that is valid now. The token of
a generation is an HMAC under the family's secret, so whoever rotates a generation, at whatever
time, hands out the same next token, and concurrent rotations agree without a lock.

    shown             answer
    the valid one     the next generation, which becomes valid
    a newer one       the next after it: our view of the family is behind
    one older         within `refresh_grace_s` of the rotation: the valid one again, since the
                      answer may have been lost; later: as below
    older             somebody copied a token: the family ends

Raises Unauthenticated with reason REFRESH_TOKEN_INVALID, SESSION_ENDED or REFRESH_TOKEN_REUSED.
Not: writing any of it.
"""

import base64
import binascii
import hmac
import secrets
import struct
from dataclasses import dataclass

from millrace.auth.access_token import FAMILY_BYTES
from millrace.errors import Unauthenticated
from social.log.v1.vault_pb2 import RefreshFamily

REUSED = "REFRESH_TOKEN_REUSED"
_SECRET_BYTES = 32
_VERSION = 1
_HEAD = struct.Struct(f">Bq{FAMILY_BYTES}sI")
_MAC_BYTES = 32
_PADDING = "=" * (-(_HEAD.size + _MAC_BYTES) % 3)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a token says; only the family's secret tells whether it is true."""

    user_id: int
    family: bytes
    generation: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Rotation:
    """`state` is to be written unless it is as before. `token` goes to the client."""

    state: RefreshFamily
    token: str
    changed: bool


def new_family(
    now_ms: int, ttl_s: int, sessions_generation: int = 0
) -> tuple[bytes, RefreshFamily]:
    """A family's name and its first state, generation 1."""
    state = RefreshFamily(
        secret=secrets.token_bytes(_SECRET_BYTES),
        generation=1,
        started_ms=now_ms,
        rotated_ms=now_ms,
        expires_ms=now_ms + ttl_s * 1000,
        sessions_generation=sessions_generation,
    )
    return secrets.token_bytes(FAMILY_BYTES), state


def token_of(user_id: int, family: bytes, state: RefreshFamily) -> str:
    """The token of the family's present generation, ASCII."""
    head = _HEAD.pack(_VERSION, user_id, family, state.generation)
    return base64.urlsafe_b64encode(head + _mac(state, head)).rstrip(b"=").decode()


def parse(text: str) -> RefreshToken:
    try:
        raw = base64.b64decode(text.encode("ascii") + _PADDING.encode(), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise invalid() from error
    if len(raw) != _HEAD.size + _MAC_BYTES or raw[0] != _VERSION:
        raise invalid()
    _, user_id, family, generation = _HEAD.unpack(raw[: _HEAD.size])
    if user_id <= 0 or generation <= 0:
        raise invalid()
    return RefreshToken(user_id, family, generation, raw[_HEAD.size :])


def rotate(state: RefreshFamily, shown: RefreshToken, now_ms: int, grace_s: int) -> Rotation:
    """What the family becomes when this token is shown. The caller ends it on REUSED."""
    head = _HEAD.pack(_VERSION, shown.user_id, shown.family, shown.generation)
    if not hmac.compare_digest(_mac(state, head), shown.mac):
        raise invalid()
    if state.revoked or state.expires_ms <= now_ms:
        raise Unauthenticated("the session has ended: log in", reason="SESSION_ENDED")
    if shown.generation >= state.generation:
        after = RefreshFamily()
        after.CopyFrom(state)
        after.generation = shown.generation + 1
        after.rotated_ms = now_ms
        return Rotation(after, token_of(shown.user_id, shown.family, after), changed=True)
    answer_lost = (
        shown.generation == state.generation - 1 and now_ms - state.rotated_ms <= grace_s * 1000
    )
    if not answer_lost:
        raise Unauthenticated(
            "this refresh token was used before, so the session has ended: log in",
            reason=REUSED,
        )
    return Rotation(state, token_of(shown.user_id, shown.family, state), changed=False)


def _mac(state: RefreshFamily, head: bytes) -> bytes:
    return hmac.digest(state.secret, head, "sha256")


def invalid() -> Unauthenticated:
    return Unauthenticated("the refresh token is not one of ours", reason="REFRESH_TOKEN_INVALID")
