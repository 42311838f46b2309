"""Forged, foreign, expired and revoked tokens at every RPC, and others' belongings."""

import base64
import hmac
import json
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import Message

from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import ensure_keys
from millrace.clock import ManualClock
from services.rpc import OPEN_TO_DEACTIVATED, OPEN_TO_ENDED
from social.v1 import comments_pb2, users_pb2
from tests.error_cases.register import ended
from tests.hostile import NOBODY, RPCS, Attack, Rpc, attacked
from tests.hostile_requests import allowed, sent
from tests.serving import PASSWORD, Person

EVERY_RPC = pytest.mark.parametrize("rpc", RPCS.values(), ids=RPCS)
DEACTIVATE = RPCS["DeactivateUser"]
KEYS_NAMED_WRONG: tuple[Any, ...] = ([], {}, 1, None, "../../master", "x" * 5000, "\0")
# Acting on what is another's. The other RPCs name nothing that could be another's, or are allowed
# to act on it; a new one must be put into one of the two.
OTHERS = {
    "DeleteMedia": "PERMISSION_DENIED",
    "EditCaption": "PERMISSION_DENIED",
    "DeleteComment": "PERMISSION_DENIED",
    "AcceptFollow": "NOT_FOUND",
    "RejectFollow": "NOT_FOUND",
    "MarkSeen": "INVALID_ARGUMENT",
}
OWN_OR_ANYBODYS = {
    "Register", "LogIn", "RefreshToken", "LogOut", "ChangePassword", "GetUsers", "UpdateProfile",
    "ChangeHandle", "DeactivateUser", "ReactivateUser", "UploadMedia", "GetMedia", "ListUserMedia",
    "DownloadMedia", "Follow", "Unfollow", "RemoveFollower", "ListFollowers", "ListFollowing",
    "GetRelationships", "Block", "Unblock", "Mute", "Unmute", "ListFollowRequests", "LikeMedia",
    "UnlikeMedia", "ListLikers", "RecordLikes", "AddComment", "ListComments", "GetFeed",
    "SaveMedia", "UnsaveMedia", "ListSaved",
    "WatchFeed", "ListActivity", "GetUnreadCount", "WatchActivity",
}  # fmt: skip


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked() as attack:
        yield attack


@pytest.fixture(scope="module")
async def revoked(attack: Attack) -> Person:
    """Somebody whose only session has ended."""
    cem = await attack.world.register("cem")
    await ended(attack.world, cem)
    return cem


def encoded(part: object) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def claims(attack: Attack, **changed: Any) -> dict[str, Any]:
    own: dict[str, Any] = jwt.decode(attack.actor.access_token, options={"verify_signature": False})
    return {name: value for name, value in {**own, **changed}.items() if value is not None}


def forgeries(attack: Attack) -> dict[str, tuple[str | None, str]]:
    """What to send as `authorization`, and the reason of the refusal."""
    real = attack.actor.access_token
    header, body, signature = real.split(".")
    tokens = {**of_other_keys(attack), **signed_wrongly(attack), **headed_wrongly(attack)}
    tokens |= {
        "another's claims": f"{header}.{attack.ben.access_token.split('.')[1]}.{signature}",
        "no signature": f"{header}.{body}.",
        "two parts": f"{header}.{body}",
        "four parts": f"{real}.{signature}",
        "twice": real + real,
        "refresh token": attack.actor.refresh_token,
        "position": attack.actor.position,
        "quoted": f'"{real}"',
        "long": "A" * 12_000,
        "empty token": "",
    }
    spoilt = base64.urlsafe_b64decode(signature + "==")
    for place in range(0, len(spoilt), 9):
        flipped = bytes(byte ^ (at == place) for at, byte in enumerate(spoilt))
        tokens[f"signature's byte {place}"] = f"{header}.{body}.{encoded(flipped)}"
    found: dict[str, tuple[str | None, str]] = {
        name: (f"Bearer {token}", "TOKEN_INVALID") for name, token in tokens.items()
    }
    for scheme in ("Basic", "Digest", "Bearer:", "Token", ""):
        found[f"scheme {scheme!r}"] = (f"{scheme} {real}", "TOKEN_INVALID")
    return {**found, "no token": (None, "TOKEN_MISSING"), "empty": ("", "TOKEN_MISSING")}


def of_other_keys(attack: Attack) -> dict[str, str]:
    """Right claims under a stranger's key, or under our public one."""
    keys, (_, body, _) = attack.world.parts.keys, attack.actor.access_token.split(".")
    kid = keys.signer.kid
    public: Any = keys.signer.private.public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    stranger = ensure_keys(Path(attack.world.parts.settings.keys_dir).parent / "others").signer

    def hmac_of(key: bytes) -> str:
        text = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{body}"
        return f"{text}.{encoded(hmac.digest(key, text.encode(), 'sha256'))}"

    return {
        "of another key": jwt.encode(claims(attack), stranger.private, "EdDSA", {"kid": kid}),
        "of another key by its name": jwt.encode(
            claims(attack), stranger.private, "EdDSA", {"kid": stranger.kid}
        ),
        "HS256 with the public key": hmac_of(raw),
        "HS256 with the public key as PEM": hmac_of(pem),
        "HS256 with nothing": hmac_of(b""),
    }


def signed_wrongly(attack: Attack) -> dict[str, str]:
    """Claims that we never make, under our own key."""
    signer = attack.world.parts.keys.signer

    def signed(changed: dict[str, Any], **header: Any) -> str:
        of = claims(attack, **changed)
        return jwt.encode(of, signer.private, "EdDSA", {"kid": signer.kid, **header})

    return {
        "another audience": signed({"aud": "elsewhere"}),
        "many audiences": signed({"aud": ["elsewhere", "nowhere"]}),
        **{f"no {name}": signed({name: None}) for name in claims(attack)},
        **{
            f"subject {wrong!r}": signed({"sub": wrong})
            for wrong in ("", "0", "-1", "ana", "1e3", "9" * 5000, "\0")
        },
        "family too short": signed({"fam": "00"}),
        "family no hex": signed({"fam": "zz" * 16}),
        "expiry no number": signed({"exp": "soon"}),
        "critical header": signed({}, crit=["x"], x=1),
    }


def headed_wrongly(attack: Attack) -> dict[str, str]:
    """A real signature under another header, or over other claims."""
    kid = attack.world.parts.keys.signer.kid
    _, real_body, signature = attack.actor.access_token.split(".")

    def headed(head: object, of: str = real_body, by: str = signature) -> str:
        return f"{encoded(head)}.{of}.{by}"

    ours = {"alg": "EdDSA", "kid": kid}
    return {
        "alg none": headed({"alg": "none", "kid": kid}, by=""),
        "alg nOnE": headed({"alg": "nOnE", "kid": kid}),
        "changed claims": headed(ours, encoded(claims(attack, sub=str(attack.ben.user_id)))),
        "later expiry": headed(ours, encoded(claims(attack, exp=2**40))),
        "no key": headed({"alg": "EdDSA"}),
        **{f"key {wrong!r}": headed({"alg": "EdDSA", "kid": wrong}) for wrong in KEYS_NAMED_WRONG},
        "key in the header": headed({"alg": "EdDSA", "jwk": {"kty": "OKP", "x": "AAAA"}}),
        "no JSON": headed(b"\xff{"),
        "deep JSON": headed(b"[" * 4000),
        "deep claims": headed(ours, encoded(b'{"sub":' * 1500)),
    }


def outdated(attack: Attack, revoked: Person) -> dict[str, tuple[str | None, str]]:
    """Tokens that we signed and that open nothing."""
    parts = attack.world.parts
    past = ManualClock(parts.clock.now_ms() - 1000 * parts.settings.access_token_ttl_s - 1000)
    expired, _ = AccessTokens(parts.settings, past, parts.keys).issue(
        attack.actor.user_id, secrets.token_bytes(16)
    )
    nobodys, _ = parts.tokens.issue(NOBODY, secrets.token_bytes(16))
    bens = jwt.decode(attack.ben.access_token, options={"verify_signature": False})
    stolen, _ = parts.tokens.issue(attack.actor.user_id, bytes.fromhex(bens["fam"]))
    return {
        "expired": (f"Bearer {expired}", "TOKEN_EXPIRED"),
        "revoked": (f"Bearer {revoked.access_token}", "SESSION_ENDED"),
        "of nobody": (f"Bearer {nobodys}", "SESSION_ENDED"),
        "another's session": (f"Bearer {stolen}", "SESSION_ENDED"),
    }


@EVERY_RPC
async def test_nobody_comes_in_by_a_bad_token(attack: Attack, revoked: Person, rpc: Rpc) -> None:
    tried = forgeries(attack) | outdated(attack, revoked)
    request = sent(allowed(rpc, attack))
    if rpc.open_to_all:
        # He may send what he likes: it is not looked at.
        for authorization, _ in tried.values():
            metadata = [("authorization", authorization or "")]
            request = sent(allowed(rpc, attack))
            outcome = await attack.call("bad tokens, where none is needed", rpc, request, metadata)
            assert not outcome.reason.startswith(("TOKEN_", "SESSION_")), outcome
            await attack.renew()
        return
    async with attack.nothing_written():
        for name, (authorization, reason) in tried.items():
            metadata = [] if authorization is None else [("authorization", authorization)]
            outcome = await attack.call("bad tokens", rpc, request, metadata)
            if reason == "SESSION_ENDED" and rpc.path in OPEN_TO_ENDED:
                assert outcome.ok or outcome.reason == reason
            elif rpc.name in attack.served:
                told = (outcome.code, outcome.reason)
                assert told == (grpc.StatusCode.UNAUTHENTICATED, reason), f"{name}: {outcome}"
            else:
                assert outcome.code == grpc.StatusCode.UNIMPLEMENTED
                break


@EVERY_RPC
async def test_of_several_tokens_none_opens_more_than_it_should(
    attack: Attack, revoked: Person, rpc: Rpc
) -> None:
    """Twice the same name: one of them counts, whichever it is, or the call is refused."""
    if rpc.name not in attack.served or rpc.open_to_all:
        pytest.skip("needs no token")
    none = [("authorization", f"Bearer {token}") for token in (revoked.access_token, "x", "")]
    async with attack.nothing_written():
        for count in (2, 3, 50):
            outcome = await attack.call(
                "several bad tokens", rpc, sent(allowed(rpc, attack)), (none * count)[:count]
            )
            assert outcome.code == grpc.StatusCode.UNAUTHENTICATED


@EVERY_RPC
async def test_who_is_deactivated_may_come_back_or_leave(attack: Attack, rpc: Rpc) -> None:
    if rpc.open_to_all or not {rpc.name, "DeactivateUser"} <= attack.served:
        pytest.skip("no servicer yet, or needs no token")
    await attack.renew()
    await attack.call("allowed requests", DEACTIVATE, sent(allowed(DEACTIVATE, attack)))
    again = users_pb2.LogInRequest(handle=attack.actor.handle, password=PASSWORD)
    outcome = await attack.call("allowed requests", RPCS["LogIn"], again, ())
    token = users_pb2.LogInResponse.FromString(outcome.answers[0]).access_token
    metadata = [("authorization", f"Bearer {token}")]
    outcome = await attack.call(
        "tokens of the deactivated", rpc, sent(allowed(rpc, attack)), metadata
    )
    if rpc.path in OPEN_TO_DEACTIVATED:
        assert outcome.ok
    else:
        assert outcome.reason == "USER_DEACTIVATED"


def test_every_rpc_is_known_to_act_on_others_belongings_or_not() -> None:
    assert sorted([*OTHERS, *OWN_OR_ANYBODYS]) == sorted(RPCS)


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_anothers_stays_as_it_is(attack: Attack, name: str) -> None:
    rpc = RPCS[name]
    await attack.renew()
    ours, attack.media_id = attack.media_id, attack.bens_media_id
    (message,) = allowed(rpc, attack)
    attack.media_id = ours
    if name == "DeleteComment":
        said: Any = message
        said.comment_id = await bens_comment(attack)
    request = sent([message])
    async with attack.nothing_written():
        outcome = await attack.call("what is another's", rpc, request)
    expected = OTHERS[name] if name in attack.served else "UNIMPLEMENTED"
    assert outcome.code.name == expected, outcome


async def bens_comment(attack: Attack) -> int:
    """Ben's own, under his own item."""
    request = comments_pb2.AddCommentRequest(
        request_id=str(uuid.uuid4()), media_id=attack.bens_media_id, text="mine"
    )
    outcome = await attack.call(
        "allowed requests", RPCS["AddComment"], request, attack.ben.metadata
    )
    return comments_pb2.AddCommentResponse.FromString(outcome.answers[0]).comment.id


@EVERY_RPC
async def test_a_request_id_belongs_to_one_user_and_one_rpc(attack: Attack, rpc: Rpc) -> None:
    """The same one everywhere: nobody is told of another's use, and nothing is mixed up."""
    if rpc.name not in attack.served or not _with_request_id(allowed(rpc, attack), ""):
        pytest.skip("no servicer yet, or no request_id")
    for user in ("first", "second"):
        attack.actor = await attack.world.register(f"{user}.{rpc.name}"[:30])
        await attack.renew()
        messages = allowed(rpc, attack)
        _with_request_id(messages, EVERYWHERE)
        outcome = await attack.call("request_ids of others", rpc, sent(messages))
        assert outcome.reason != "REQUEST_ID_REUSED", outcome
        assert outcome.ok or outcome.code.name in ("NOT_FOUND", "PERMISSION_DENIED"), outcome


EVERYWHERE = str(uuid.uuid5(uuid.NAMESPACE_URL, "everywhere"))


def _with_request_id(messages: list[Message], request_id: str) -> int:
    """Puts it wherever there is room for one."""
    found = 0
    for message in messages:
        for holder in (message, *(value for _, value in message.ListFields())):
            if isinstance(holder, Message) and "request_id" in holder.DESCRIPTOR.fields_by_name:
                roomy: Any = holder
                roomy.request_id = request_id
                found += 1
    return found
