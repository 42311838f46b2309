"""Each field of every RPC at, below and above its limits, and texts that are traps."""

from collections.abc import AsyncIterator

import grpc
import pytest

from social.v1 import media_pb2
from tests.hostile import RPCS, Attack, Rpc, attacked
from tests.hostile_requests import TEXTS, fields_tried, names_it

EVERY_RPC = pytest.mark.parametrize("rpc", RPCS.values(), ids=RPCS)


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked() as attack:
        yield attack


@EVERY_RPC
async def test_what_breaks_a_rule_is_refused_and_named(attack: Attack, rpc: Rpc) -> None:
    await attack.renew()
    async with attack.nothing_written():
        for tried in fields_tried(rpc, attack):
            if tried.breaks is None:
                continue
            outcome = await attack.call("fields beyond a limit", rpc, tried.messages)
            if rpc.name not in attack.served:
                assert outcome.code == grpc.StatusCode.UNIMPLEMENTED
                break
            told = f"{tried.label}: {outcome}"
            assert outcome.reason == "INVALID_FIELD", told
            assert names_it(outcome.fields, tried.breaks), told


@EVERY_RPC
async def test_what_the_rules_allow_is_not_refused_for_its_form(attack: Attack, rpc: Rpc) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    await attack.renew()
    for tried in fields_tried(rpc, attack):
        if tried.breaks is not None:
            continue
        outcome = await attack.call("fields at a limit", rpc, tried.messages)
        assert outcome.reason != "INVALID_FIELD", f"{tried.label}: {outcome}"
        if outcome.ok:
            await attack.renew()
    await attack.others_are_served()


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_comes_back_as_it_was_sent(attack: Attack, name: str) -> None:
    """Neither cut nor put into another normal form."""
    text = TEXTS[name]
    await attack.renew()
    media_id = await attack.publish(attack.actor, caption=text)
    request = media_pb2.GetMediaRequest(media_ids=[media_id])
    outcome = await attack.call("texts that are traps", RPCS["GetMedia"], request)
    (item,) = media_pb2.GetMediaResponse.FromString(outcome.answers[0]).items
    assert item.caption == text
