"""Records as events, and what no version of the vocabulary explains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import FailedPrecondition, NewerEvent, PoisonEvent
from millrace.log.codec import decode, sealed_of
from millrace.log.dead import DeadRatio
from millrace.log.port import ORDER_HEADER, TRACE_HEADER, Record
from millrace.log.topics import TOPICS
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked
from social.log.v1.media_pb2 import MediaDeleted, MediaUploaded
from social.log.v1.sealed_pb2 import Sealed

LIKED = MediaLiked(user_id=7, media_id=9, at_ms=3)
RECORD = Record("likes", 2, 40, b"key", LikesEvent(liked=LIKED).SerializeToString(), 5)


def test_the_member_of_the_oneof_is_the_event() -> None:
    event = decode(RECORD)
    assert event.message == LIKED
    assert (event.number, event.order, event.partition, event.appended_ms) == (40, 40, 2, 5)
    assert event.trace == ""


def test_headers_carry_the_trace_and_the_old_number() -> None:
    headers = {TRACE_HEADER: b"00-ab-cd", ORDER_HEADER: (12).to_bytes(8, "big")}
    event = decode(RECORD._replace(headers=headers))
    assert (event.number, event.order, event.trace) == (40, 12, "00-ab-cd")


@pytest.mark.parametrize(
    "record",
    [
        RECORD._replace(value=None),
        RECORD._replace(value=b""),
        RECORD._replace(value=b"\xff\xff"),
        RECORD._replace(headers={ORDER_HEADER: (41).to_bytes(8, "big")}),
        RECORD._replace(headers={ORDER_HEADER: b"\xff" * 40}),
        Record("users", 0, 1, b"", b"\x0a\x04\x2a\x02\x12\xff"),
    ],
)
def test_poison(record: Record) -> None:
    with pytest.raises(PoisonEvent):
        decode(record)


def test_a_kind_that_a_newer_version_adds_is_not_poison() -> None:
    """An old processor that passed it over would lose it for good."""
    kinds = LikesEvent.DESCRIPTOR.oneofs_by_name["event"].fields
    newer = max(kind.number for kind in kinds) + 1
    assert newer < 16  # its tag is one byte
    with pytest.raises(NewerEvent):
        decode(RECORD._replace(value=bytes((newer << 3 | 2, 1, 0))))
    with pytest.raises(PoisonEvent):
        decode(RECORD._replace(value=bytes((newer << 3, 7))))


@given(st.sampled_from(sorted(TOPICS)), st.none() | st.binary(max_size=60), st.binary(max_size=9))
def test_any_bytes_are_an_event_or_poison(topic: str, value: bytes | None, header: bytes) -> None:
    record = Record(topic, 0, 7, b"k", value, headers={TRACE_HEADER: header, ORDER_HEADER: header})
    try:
        event = decode(record)
    except (PoisonEvent, NewerEvent):
        return
    assert 0 < event.order <= 7


def test_a_record_without_a_value_ends_its_key_in_a_compacted_topic() -> None:
    event = decode(Record("vault", 0, 1, b"key", None))
    assert event.key == b"key"
    assert not event.message.ListFields()


def test_sealed_text_is_found_where_there_is_some() -> None:
    sealed = Sealed(owner_id=3, box=b"box")
    assert sealed_of(MediaUploaded(sealed=sealed)) == sealed
    assert sealed_of(MediaUploaded()) is None
    assert sealed_of(MediaDeleted()) is None


def test_too_many_dead_letters_stop_the_processor() -> None:
    ratio = DeadRatio(0.1, 100)
    for _ in range(10):
        ratio.check()
        ratio.count_dead()
    ratio.count(99)
    with pytest.raises(FailedPrecondition) as stopped:
        ratio.check()
    assert stopped.value.reason == "TOO_MANY_DEAD_LETTERS"


def test_dead_letters_of_long_ago_are_forgotten() -> None:
    ratio = DeadRatio(0.1, 100)
    for _ in range(50):
        for _ in range(10):
            ratio.check()
            ratio.count_dead()
        ratio.count(100)
