"""Metadata, positions, page tokens and deadlines that nobody was given."""

import base64
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from social.v1 import follows_pb2
from tests.hostile import RPCS, Attack, Outcome, Rpc, attacked
from tests.hostile_requests import allowed, sent

EVERY_RPC = pytest.mark.parametrize("rpc", RPCS.values(), ids=RPCS)
# Strings that only a server makes, by the name of their field.
TOKENS = ("page_token", "resume_token", "seen_token", "refresh_token")
TOKEN_FIELDS = [
    (rpc, field.name)
    for rpc in RPCS.values()
    for field in rpc.method.input_type.fields
    if field.name in TOKENS
]
FOREIGN_TOKENS = ("AAAA", "a", "=", "====", "A" * 512, "\u00e4", "../..", " ", "null", "0", "-1")
UNDER_16_KIB = 15_000


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked(refresh_grace_s=0) as attack:
        for name in ("cem", "dia"):
            one = await attack.world.register(name)
            for whom in (attack.ben, attack.actor):
                await attack.call(
                    "allowed requests",
                    RPCS["Follow"],
                    follows_pb2.FollowRequest(
                        request_id="0" * 8 + "-0000-4000-8000-" + "0" * 12, user_id=whom.user_id
                    ),
                    one.metadata,
                )
        await attack.world.process_all()
        yield attack


def is_refused(outcome: Outcome, *reasons: str) -> bool:
    return not outcome.ok and outcome.reason in reasons


@EVERY_RPC
async def test_positions_that_nobody_gave_out(attack: Attack, rpc: Rpc) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    await attack.renew()
    own = attack.actor.metadata[:1]
    real = attack.actor.position
    flipped = list(spoilt(real, step=7))
    for position in ("x", "AAAA", "_" * 180, "_" * 5000, "%00", real[:-1], real + "A", *flipped):
        metadata = [*own, ("millrace-position", position)]
        outcome = await attack.call("forged positions", rpc, sent(allowed(rpc, attack)), metadata)
        if rpc.open_to_all and not outcome.reason.startswith("POSITION"):
            await attack.renew()
            continue
        assert is_refused(outcome, "POSITION_TOKEN_INVALID", "POSITION_OF_ANOTHER_LOG"), position
    # Another's says how far the views must be, and opens nothing.
    metadata = [*own, ("millrace-position", attack.ben.position)]
    outcome = await attack.call("others' positions", rpc, sent(allowed(rpc, attack)), metadata)
    assert not outcome.reason.startswith("POSITION")
    for count in (2, 17, 90):
        metadata = [*own, *[("millrace-position", "x" * 100)] * count]
        outcome = await attack.call("many positions", rpc, sent(allowed(rpc, attack)), metadata)
        assert not outcome.ok or rpc.open_to_all
    await attack.renew()


@pytest.mark.parametrize(("rpc", "name"), TOKEN_FIELDS, ids=lambda one: getattr(one, "name", one))
async def test_tokens_of_requests_that_nobody_gave_out(attack: Attack, rpc: Rpc, name: str) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    await attack.renew()
    page_tokens = attack.world.parts.page_tokens
    kinds = (
        "followers", "following", "likers", "user_media", "feed", "comments", "saved", "activity",
    )  # fmt: skip
    foreign = [page_tokens.encode(kind, attack.ben.user_id, 1) for kind in kinds]
    flipped = list(spoilt(page_tokens.encode("followers", attack.ben.user_id, 1), step=1))
    if name == "refresh_token":
        flipped += spoilt(attack.actor.refresh_token, step=1)
    async with attack.nothing_written():
        for token in (*FOREIGN_TOKENS, *flipped, attack.actor.access_token, attack.ben.position):
            outcome = await with_token(attack, rpc, name, token)
            assert not outcome.ok, f"{rpc.name} took {token}"
            assert outcome.code in (
                grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED,
            )  # fmt: skip
        refused = 0
        for token in foreign:
            outcome = await with_token(attack, rpc, name, token)
            refused += not outcome.ok
        # One of them may be this very list's.
        assert refused >= len(foreign) - 1


async def with_token(attack: Attack, rpc: Rpc, name: str, token: str) -> Outcome:
    (message,) = allowed(rpc, attack)
    setattr(message, name, token)
    return await attack.call("tokens in requests", rpc, message)


async def test_a_list_goes_on_for_its_owner_alone(attack: Attack) -> None:
    rpc = RPCS["ListFollowers"]
    first = follows_pb2.ListFollowersRequest(user_id=attack.ben.user_id, page_size=1)
    outcome = await attack.call("allowed requests", rpc, first)
    token = follows_pb2.ListFollowersResponse.FromString(outcome.answers[0]).next_page_token
    assert token
    others = follows_pb2.ListFollowersRequest(user_id=attack.actor.user_id, page_token=token)
    outcome = await attack.call("tokens in requests", rpc, others)
    assert outcome.reason == "PAGE_TOKEN_OF_ANOTHER_LIST"
    for spoilt_token in spoilt(token, step=1):
        again = follows_pb2.ListFollowersRequest(
            user_id=attack.ben.user_id, page_token=spoilt_token
        )
        outcome = await attack.call("page tokens, one bit changed", rpc, again)
        assert outcome.reason == "PAGE_TOKEN_INVALID"


@EVERY_RPC
async def test_metadata_below_the_limit_is_never_in_the_way(attack: Attack, rpc: Rpc) -> None:
    await attack.renew()
    many = [(f"x-{number}", "y") for number in range(150)]
    binary = [("x-bin", bytes(range(256)) * 4)] * 5
    large = [("x", "y" * UNDER_16_KIB)]
    traces = [
        ("traceparent", one) for one in ("", "00-x", "00-" + "f" * 32 + "-" + "f" * 16 + "-01")
    ]
    for more in (many, binary, large, large, large, traces):
        outcome = await attack.call(
            "much metadata", rpc, sent(allowed(rpc, attack)), [*attack.actor.metadata, *more]
        )
        assert outcome.code != grpc.StatusCode.RESOURCE_EXHAUSTED
        if outcome.ok:
            await attack.renew()
    outcome = await attack.call(
        "too much metadata", rpc, sent(allowed(rpc, attack)), [("x", "y" * 17_000)]
    )
    assert outcome.code == grpc.StatusCode.RESOURCE_EXHAUSTED


@EVERY_RPC
async def test_deadlines_that_make_no_sense(attack: Attack, rpc: Rpc) -> None:
    await attack.renew()
    for timeout in (-1e9, -1, 0, 1e-9, 1e-4, 1e-3, 1e8):
        outcome = await attack.call(
            "deadlines", rpc, sent(allowed(rpc, attack)), own_deadline=True, timeout=timeout
        )
        if timeout > 1:
            assert outcome.code != grpc.StatusCode.DEADLINE_EXCEEDED
        elif timeout < 0:
            # INTERNAL only as gRPC's client has it: docs/upstream.md.
            assert outcome.code in (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.INTERNAL,
            )
        await attack.renew()
    await attack.others_are_served()


def spoilt(token: str, *, step: int) -> Iterator[str]:
    """Every `step`th byte with one bit changed; what text encodes no other bytes is left out."""
    parts = token.split(".")
    body = base64.urlsafe_b64decode(parts[-1] + "=" * (-len(parts[-1]) % 4))
    for place in range(0, len(body), step):
        changed = bytearray(body)
        changed[place] ^= 1 << place % 8
        text = base64.urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode()
        yield ".".join([*parts[:-1], text])
