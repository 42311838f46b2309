"""The caller's token, against a dict of everything that was ever appended."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import FailedPrecondition, InvalidRequest, MillraceError
from millrace.log.control import LogIdentity, log_id_of
from millrace.log.port import Appended
from millrace.log.position_token import (
    FOREIGN_MAX,
    FOREIGN_TOPICS,
    OWN_TOPICS,
    TEXT_BYTES_MAX,
    TOKENS_MAX,
    PositionToken,
    PositionTokens,
    decode,
    decode_all,
    encode,
)

SHORT_BYTES = 150
SEED = bytes(range(32))
IDENTITY = LogIdentity(SEED, log_id_of(SEED), 1_000)
KEY = IDENTITY.key("position")
OTHER = LogIdentity(b"other", log_id_of(b"other"), 1_000)

partitions = st.integers(0, 4095)
numbers = st.integers(1, 2**40 + 1)
appended = st.builds(Appended, st.sampled_from(FOREIGN_TOPICS), partitions, numbers)
near = st.builds(Appended, st.sampled_from(FOREIGN_TOPICS), st.integers(0, 2), numbers)
tokens = st.builds(
    PositionToken,
    st.just(IDENTITY.log_id),
    partitions,
    st.dictionaries(st.sampled_from(OWN_TOPICS), numbers),
    st.lists(appended, max_size=FOREIGN_MAX).map(lambda many: tuple(tuple(one) for one in many)),
)
FULL = PositionToken(
    IDENTITY.log_id,
    4095,
    dict.fromkeys(OWN_TOPICS, 2**40 + 1),
    tuple(("vault", 4095 - n, 2**40 + 1) for n in range(FOREIGN_MAX)),
)


@given(tokens)
def test_what_is_encoded_is_decoded_and_short(token: PositionToken) -> None:
    text = encode(token, KEY)
    assert decode(text, KEY, IDENTITY.log_id) == token
    assert len(text) < SHORT_BYTES
    assert text.isascii()


def test_the_largest_token_is_short() -> None:
    assert len(encode(FULL, KEY)) < SHORT_BYTES
    assert decode("", KEY, IDENTITY.log_id) == PositionToken(IDENTITY.log_id)


def test_a_token_of_the_last_number_there_is_comes_back() -> None:
    last = 2**63 - 1
    foreign = tuple(("vault", 4095 - n, last) for n in range(FOREIGN_MAX))
    token = PositionToken(IDENTITY.log_id, 4095, dict.fromkeys(OWN_TOPICS, last), foreign)
    text = encode(token, KEY)
    assert len(text) <= TEXT_BYTES_MAX
    assert decode(text, KEY, IDENTITY.log_id) == token


def test_a_token_that_clients_keep_stays_readable() -> None:
    token = PositionToken(IDENTITY.log_id, 7, {"media": 3, "likes": 9}, (("follows", 2, 5),))
    text = "CAcSBAADAAkaAQIiAQIqAQU1ZjPEZorKvf5ETq8MRXkBwg"
    assert (encode(token, KEY), decode(text, KEY, IDENTITY.log_id)) == (text, token)


def test_topics_that_only_a_newer_version_knows_are_passed_over() -> None:
    newer = (*FOREIGN_TOPICS, "stories")
    token = PositionToken(IDENTITY.log_id, 7, {"saves": 3}, (("stories", 1, 5), ("likes", 2, 6)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("millrace.log.position_token.FOREIGN_TOPICS", newer)
        text = encode(token, KEY)
    known = PositionToken(IDENTITY.log_id, 7, {"saves": 3}, (("likes", 2, 6),))
    assert decode(text, KEY, IDENTITY.log_id) == known


@given(st.lists(near, max_size=30), st.integers(0, 2))
def test_a_token_keeps_the_highest_and_the_newest(events: list[Appended], own: int) -> None:
    token = PositionToken(IDENTITY.log_id)
    mine: dict[tuple[str, int], int] = {}
    foreign: dict[tuple[str, int], int] = {}
    for event in events:
        token = token.after(event, own)
        place = (event.topic, event.partition)
        if event.topic in OWN_TOPICS and event.partition == own:
            mine[place] = max(mine.get(place, 0), event.number)
        else:
            foreign[place] = max(foreign.pop(place, 0), event.number)
            foreign = dict(list(foreign.items())[-FOREIGN_MAX:])
    assert token.needs(FOREIGN_TOPICS) == mine | foreign
    for topic in FOREIGN_TOPICS:
        wanted = {place: n for place, n in (mine | foreign).items() if place[0] == topic}
        assert token.needs([topic]) == wanted


def test_another_account_on_the_same_client() -> None:
    first = PositionToken(IDENTITY.log_id).after(Appended("likes", 1, 10), 1)
    second = first.after(Appended("media", 2, 5), 2)
    assert second.needs(OWN_TOPICS) == {("likes", 1): 10, ("media", 2): 5}
    back = second.after(Appended("likes", 1, 11), 1)
    assert back == PositionToken(IDENTITY.log_id, 1, {"likes": 11}, (("media", 2, 5),))


@given(tokens, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_token_is_refused(token: PositionToken, place: int, change: int) -> None:
    text = encode(token, KEY)
    signed = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    signed[place % len(signed)] ^= change
    with pytest.raises((InvalidRequest, FailedPrecondition)) as refused:
        decode(base64.urlsafe_b64encode(signed).rstrip(b"=").decode(), KEY, IDENTITY.log_id)
    assert refused.value.reason in ("POSITION_TOKEN_INVALID", "POSITION_OF_ANOTHER_LOG")


@given(st.text(min_size=1, max_size=200) | st.binary(max_size=110).map(lambda b: b.hex()))
def test_garbage_is_refused_politely(text: str) -> None:
    if text:
        with pytest.raises(MillraceError) as refused:
            decode(text, KEY, IDENTITY.log_id)
        assert refused.value.reason in ("POSITION_TOKEN_INVALID", "POSITION_OF_ANOTHER_LOG")


def test_forged_and_of_another_log() -> None:
    token = PositionToken(IDENTITY.log_id, 7, {"media": 3})
    with pytest.raises(InvalidRequest) as forged:
        decode(encode(token, b"guessed"), KEY, IDENTITY.log_id)
    assert forged.value.reason == "POSITION_TOKEN_INVALID"
    theirs = encode(PositionToken(OTHER.log_id, 7, {"media": 3}), OTHER.key("position"))
    with pytest.raises(FailedPrecondition) as other:
        decode(theirs, KEY, IDENTITY.log_id)
    assert other.value.reason == "POSITION_OF_ANOTHER_LOG"


@given(st.lists(tokens, min_size=1, max_size=TOKENS_MAX))
def test_several_tokens_ask_for_all_that_each_asks(sent: list[PositionToken]) -> None:
    texts = [encode(token, KEY) for token in sent]
    merged = decode_all(texts, KEY, IDENTITY.log_id)
    wanted: dict[tuple[str, int], int] = {}
    for token in sent:
        for place, number in token.needs(FOREIGN_TOPICS).items():
            wanted[place] = max(wanted.get(place, 0), number)
    assert merged.needs(FOREIGN_TOPICS) == wanted
    assert merged.partition == sent[-1].partition
    assert decode_all([",".join(texts)], KEY, IDENTITY.log_id) == merged
    # What is answered has its own partition whole, and the newest of the others.
    answered = decode(encode(merged, KEY), KEY, IDENTITY.log_id)
    assert answered.numbers == merged.numbers
    assert answered.foreign == merged.foreign[-FOREIGN_MAX:]


def test_no_token_is_the_empty_one_and_too_many_are_refused() -> None:
    empty = PositionToken(IDENTITY.log_id)
    assert decode_all([], KEY, IDENTITY.log_id) == empty
    text = encode(empty.after(Appended("likes", 1, 10), 1), KEY)
    for many in ([text] * (TOKENS_MAX + 1), [",".join([text] * 10_000)]):
        with pytest.raises(InvalidRequest) as refused:
            decode_all(many, KEY, IDENTITY.log_id)
        assert refused.value.reason == "POSITION_TOKENS_TOO_MANY"


def test_what_is_remembered_is_what_would_be_read_and_its_number_is_bounded() -> None:
    tokens = PositionTokens(KEY, IDENTITY.log_id, remembered_max=2)
    written = [PositionToken(IDENTITY.log_id, 7, {"media": number}) for number in range(1, 6)]
    texts = [tokens.write(token) for token in written]
    assert len(tokens._remembered) == 2
    for text, token in zip(texts, written, strict=True):
        assert tokens.read([text]) == tokens.read([text]) == token
    assert tokens.read(texts).numbers == {"media": 5}
    assert tokens.read([]) == tokens.read([""]) == PositionToken(IDENTITY.log_id)
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            tokens.read(["x"])
    assert len(tokens._remembered) == 2


@given(tokens)
def test_what_was_written_is_read_as_by_another_process(token: PositionToken) -> None:
    ours, theirs = (PositionTokens(KEY, token.log_id, remembered_max=9) for _ in range(2))
    text = ours.write(token)
    assert ours.read([text]) == theirs.read([text])
