"""RecordLikes by those who mean harm: numbers that jump, items of nobody, silence, no reading."""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from social.v1 import likes_pb2 as pb
from tests.hostile import NOBODY, RPCS, Attack, Outcome, attacked
from tests.hostile_count import tried

RECORD = RPCS["RecordLikes"]
ITEMS_MAX = 1000


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked(stream_idle_max_s=0.3) as attack:
        yield attack


def message(numbers: Sequence[int], media_id: int, request_id: str = "") -> bytes:
    likes = [pb.RecordedLike(sequence=number, media_id=media_id) for number in numbers]
    data: bytes = pb.RecordLikesRequest(
        request_id=request_id or str(uuid.UUID(int=7)), likes=likes
    ).SerializeToString()
    return data


async def record(attack: Attack, *sent: bytes) -> Outcome:
    """Items before a broken one may be written: so what is written is for the tests to look at."""
    return await attack.call("recordings", RECORD, sent, concurrent=True)


@pytest.mark.parametrize(
    "numbers", [[1, 3], [2, 1], [1, 1], [1, 2, 2], [5, 4], [1, 2**63 - 1], [2**63 - 1, 1]]
)
async def test_numbers_that_jump_are_refused(attack: Attack, numbers: list[int]) -> None:
    before = attack._records()
    for sent in (
        [message(numbers, attack.media_id)],
        [message(numbers[:1], attack.media_id), message(numbers[1:], attack.media_id)],
    ):
        outcome = await record(attack, *sent)
        assert outcome.code == grpc.StatusCode.INVALID_ARGUMENT, outcome
        assert outcome.reason == "RECORDING_OUT_OF_SEQUENCE"
    # The one item before the broken one, in a message of its own, may be there.
    assert attack._records() <= before + 1


async def test_one_stream_is_one_recording(attack: Attack) -> None:
    outcome = await record(
        attack,
        message([1], attack.media_id),
        message([2], attack.media_id, str(uuid.UUID(int=8))),
    )
    assert outcome.reason == "RECORDING_REQUEST_ID_CHANGED"


async def test_items_that_nobody_has_are_refused_one_by_one(attack: Attack) -> None:
    """All are answered for, and none is written."""
    before = attack._records()
    numbers = list(range(1, ITEMS_MAX + 1))
    outcome = await record(attack, message(numbers, NOBODY), message([ITEMS_MAX + 1], 2**63 - 1))
    answers = [pb.RecordLikesResponse.FromString(one) for one in outcome.answers]
    refused = [one.sequence for answer in answers for one in answer.refused]
    assert outcome.ok
    assert refused == [*numbers, ITEMS_MAX + 1]
    assert answers[-1].acknowledged_sequence == ITEMS_MAX + 1
    assert attack._records() == before


async def test_the_same_item_a_thousand_times_is_one_like(attack: Attack) -> None:
    outcome = await record(attack, message(range(1, ITEMS_MAX + 1), attack.media_id))
    assert outcome.ok, outcome
    await attack.world.process_all()
    listed = await attack.call(
        "allowed requests", RPCS["ListLikers"], pb.ListLikersRequest(media_id=attack.media_id)
    )
    users = pb.ListLikersResponse.FromString(listed.answers[0]).users
    assert [user.id for user in users] == [attack.actor.user_id]


@pytest.mark.parametrize("messages", [0, 1])
async def test_who_says_nothing_is_cut_off(attack: Attack, messages: int) -> None:
    running: Any = attack.world.channel.stream_stream(RECORD.path)(
        metadata=attack.actor.metadata, timeout=10
    )
    for _ in range(messages):
        await running.write(message([1], attack.media_id))
    tried("recordings")
    with pytest.raises(grpc.aio.AioRpcError):
        await read_all(running)
    assert await running.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def read_all(running: Any) -> None:
    while await running.read() is not grpc.aio.EOF:
        pass


async def test_who_never_reads_his_answers_stops_nobody(attack: Attack) -> None:
    """The server reads no further while too much is unanswered, and others are served."""
    running: Any = attack.world.channel.stream_stream(RECORD.path)(
        metadata=attack.actor.metadata, timeout=20
    )
    first = 1
    for _ in range(30):
        await running.write(message(range(first, first + 100), NOBODY))
        first += 100
        await attack.others_are_served()
    tried("recordings")
    running.cancel()
