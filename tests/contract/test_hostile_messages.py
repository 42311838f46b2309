"""Bytes that are no message, are another's, or are more than anybody would send."""

import random
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.hostile import RPCS, Attack, Rpc, attacked
from tests.hostile_requests import allowed, sent

pytestmark = pytest.mark.parametrize("rpc", RPCS.values(), ids=RPCS)

SEED = 20171
FLIPS = 25
OTHERS_TRIED = 15
TRUNCATIONS_MAX = 120
MESSAGE_BYTES_MAX = 2 * 1024 * 1024
MALFORMED = (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")
UNTOLD = (grpc.StatusCode.RESOURCE_EXHAUSTED, "")
TO_COME = (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")

GARBAGE = {
    "one byte": b"\xff",
    "field number 0": b"\x02\x00",
    "no end": b"\x0a\xff\xff\xff\xff\x0f",
    "negative length": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
    "a varint of 11 bytes": b"\x08" + b"\xff" * 10 + b"\x01",
    "an end of no group": b"\x0c",
    "a group with no end": b"\x0b" * 50,
    "groups within groups": b"\x9b\x06" * 5000 + b"\x9c\x06" * 5000,
    "wire type 6": b"\x0e\x00",
    "JSON": b'{"request_id": "x"}',
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(100),
}
# Valid protobuf that no proto of ours has: skipped, as from a newer client.
UNKNOWN = {
    "a varint": b"\xf8\xff\x07" + b"\xff" * 9 + b"\x01",
    "the highest number": b"\xf8\xff\xff\xff\x0f\x01",
    "fixed": b"\xf9\xff\x07" + bytes(8) + b"\xfd\xff\x07" + bytes(4),
    "bytes": b"\xfa\xff\x07\x04\x00\xff\xfe\xed",
    "a group": b"\xfb\xff\x07\x08\x01\xfc\xff\x07",
    "ten thousand": b"\xf8\xff\x07\x01" * 10_000,
    "a megabyte": b"\xfa\xff\x07\x80\x80\x40" + bytes(1024 * 1024),
}
# No UTF-8, each in its own way.
BROKEN_TEXTS = {
    "a lone surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "an overlong zero": b"\xc0\x80",
    "an overlong slash": b"\xe0\x80\xaf",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "half a letter": b"\xf0\x9f\x98",
    "a continuation": b"\x80",
    "Latin-1": "Müller".encode("latin-1"),
}


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked() as attack:
        yield attack


async def test_what_is_no_message_is_told_so(attack: Attack, rpc: Rpc) -> None:
    await attack.renew()
    expected = MALFORMED if rpc.name in attack.served else TO_COME
    async with attack.nothing_written():
        for name, garbage in GARBAGE.items():
            outcome = await attack.call("garbage", rpc, garbage)
            assert (outcome.code, outcome.reason) == expected, f"{name}: {outcome}"


async def test_texts_are_utf_8(attack: Attack, rpc: Rpc) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    await attack.renew()
    async with attack.nothing_written():
        for before, after, wrapped in _text_fields(rpc):
            for name, text in BROKEN_TEXTS.items():
                message = before + wrapped(text) + after
                outcome = await attack.call("texts that are no UTF-8", rpc, message)
                assert (outcome.code, outcome.reason) == MALFORMED, f"{name}: {outcome}"


async def test_what_is_cut_or_changed_anywhere_has_an_answer(attack: Attack, rpc: Rpc) -> None:
    """Some of it is a request that the rules allow: then it may be done, and is not half done."""
    chance = random.Random(f"{SEED} {rpc.name}")
    await attack.renew()
    whole = sent(allowed(rpc, attack))[0][:4096]
    cuts = range(len(whole)) if len(whole) < TRUNCATIONS_MAX else range(0, len(whole), 32)
    spoilt = [whole[:cut] for cut in cuts]
    for _ in range(FLIPS):
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8)) if changed else 0):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        spoilt.append(bytes(changed))
        spoilt.append(chance.randbytes(chance.randrange(1, 200)))
    if rpc.name not in attack.served:
        spoilt = spoilt[:3]
    for message in spoilt:
        outcome = await attack.call("messages cut or changed", rpc, message)
        if outcome.ok:
            await attack.renew()
    await attack.others_are_served()


async def test_a_message_of_another_rpc(attack: Attack, rpc: Rpc) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    others = [other for other in RPCS.values() if other.request is not rpc.request]
    for other in random.Random(f"{SEED} {rpc.name}").sample(others, OTHERS_TRIED):
        outcome = await attack.call("messages of other RPCs", rpc, sent(allowed(other, attack))[0])
        if outcome.ok:
            await attack.renew()
    await attack.others_are_served()


async def test_fields_of_the_future_are_passed_over(attack: Attack, rpc: Rpc) -> None:
    if rpc.name not in attack.served:
        pytest.skip("no servicer yet")
    for name, unknown in UNKNOWN.items():
        await attack.renew()
        plain = await attack.call("allowed requests", rpc, sent(allowed(rpc, attack)))
        await attack.renew()
        first, *others = sent(allowed(rpc, attack))
        outcome = await attack.call("unknown fields", rpc, [first + unknown, *others])
        assert (outcome.code, outcome.reason) == (plain.code, plain.reason), f"{name}: {outcome}"


async def test_a_message_above_the_limit_is_not_read(attack: Attack, rpc: Rpc) -> None:
    await attack.renew()
    async with attack.nothing_written():
        above = await attack.call("messages above 2 MiB", rpc, b"\xff" * (MESSAGE_BYTES_MAX + 1))
        within = await attack.call("messages of 2 MiB", rpc, b"\xff" * MESSAGE_BYTES_MAX)
    if rpc.name in attack.served:
        assert (above.code, above.reason) == UNTOLD
        assert (within.code, within.reason) == MALFORMED


async def test_as_many_items_as_a_message_holds(attack: Attack, rpc: Rpc) -> None:
    """A list beyond its limit is not looked at, however long; a million items are short bytes."""
    lists = [one for one in rpc.method.input_type.fields if one.is_repeated]
    if rpc.name not in attack.served or not lists:
        pytest.skip("no servicer yet, or no list")
    await attack.renew()
    async with attack.nothing_written():
        for one in lists:
            empty = bytes((one.number << 3 | 2, 0))
            full = empty * ((MESSAGE_BYTES_MAX - 1000) // len(empty))
            if one.type == FieldDescriptor.TYPE_INT64:
                # Packed: a byte each.
                full = bytes((one.number << 3 | 2, 0x80, 0x80, 0x7F)) + b"\1" * (0x7F << 14)
            first, *others = sent(allowed(rpc, attack))
            outcome = await attack.call("lists of millions", rpc, [first + full, *others])
            assert outcome.reason == "INVALID_FIELD"


def _text_fields(rpc: Rpc) -> Iterator[tuple[bytes, bytes, "_Wrapped"]]:
    for field in rpc.request.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield b"", b"", _Wrapped((field.number,))
        elif field.message_type is not None:
            for inner in field.message_type.fields:
                if inner.type == FieldDescriptor.TYPE_STRING:
                    yield b"", b"", _Wrapped((field.number, inner.number))


class _Wrapped:
    """A text as the bytes of a field; of an inner message's field, with two numbers."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers

    def __call__(self, text: bytes) -> bytes:
        for number in reversed(self._numbers):
            text = bytes((number << 3 | 2, len(text))) + text
        return text
