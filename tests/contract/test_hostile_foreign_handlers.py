"""Health and reflection, which need no token, under attack."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.hostile import Attack, Outcome, attacked, outcome_of
from tests.hostile_count import tried

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = {
    "/grpc.health.v1.Health/Check": (False, False),
    "/grpc.health.v1.Health/Watch": (False, True),
    REFLECTION: (True, True),
}
GARBAGE = (b"\xff\xff", b"\x0a\x05\xed\xa0\x80ab", b"\x0a\xff\xff\x7f", b"\x0b" * 200)


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked() as attack:
        yield attack


async def called(attack: Attack, path: str, sent: bytes) -> Outcome:
    takes, gives = METHODS.get(path, (False, False))
    kind = f"{'stream' if takes else 'unary'}_{'stream' if gives else 'unary'}"
    call: Any = getattr(attack.world.channel, kind)(path)
    running = call(iter((sent,)) if takes else sent, timeout=10)
    tried("health and reflection")
    try:
        answer = await running.read() if gives else await running
    except grpc.aio.AioRpcError as error:
        return outcome_of(error)
    running.cancel()
    return Outcome(grpc.StatusCode.OK, answers=(answer,))


@pytest.mark.parametrize("path", METHODS)
async def test_bytes_that_are_no_message_are_refused_in_our_words(
    attack: Attack, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with attack.nothing_written():
        for sent in GARBAGE:
            outcome = await called(attack, path, sent)
            assert outcome.code == grpc.StatusCode.INVALID_ARGUMENT, outcome
            assert outcome.reason == "MESSAGE_MALFORMED"
            assert "protobuf" not in outcome.message
    assert "Traceback" not in caplog.text


async def test_a_method_that_they_lack_is_unimplemented(attack: Attack) -> None:
    outcome = await called(attack, "/grpc.health.v1.Health/List", b"")
    assert (outcome.code, outcome.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert "class" not in outcome.message


async def test_what_nobody_has_is_not_there(attack: Attack) -> None:
    for name in ("nothing", "\u202e", "x" * 100_000):
        request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
        outcome = await called(attack, "/grpc.health.v1.Health/Check", request)
        assert outcome.code == grpc.StatusCode.NOT_FOUND
        outcome = await called(attack, REFLECTION, b"\x22" + _sized(name.encode()))
        assert outcome.ok


def _sized(data: bytes) -> bytes:
    size, left = b"", len(data)
    while left >= 128:
        size += bytes((left & 127 | 128,))
        left >>= 7
    return size + bytes((left,)) + data
