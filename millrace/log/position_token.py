"""The caller's token (`millrace-position`): how far the views must be for him to read his writes.

It holds one number a topic of his own partition, and up to four of other partitions, where
writes of his may lie as well (accept, reject, remove, a comment deleted by the photo's owner).
Clients send the newest one back; after concurrent writes several, which a call's own token
covers. Signed, tied to one log, under 150 bytes of text; only the long numbers of a topic's third
generation and later may take it to `TEXT_BYTES_MAX`.

Not: waiting for a view (services do), or anything about reads: they add nothing to a token.
"""

import base64
import binascii
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from google.protobuf.message import DecodeError

from millrace.errors import Bug, FailedPrecondition, InvalidRequest
from millrace.log.port import Appended, Log, TopicPartition
from millrace.log.topics import TOPICS
from social.log.v1.token_pb2 import PositionTokenBody

# Their places are in tokens that clients keep: only ever added to, at the end.
OWN_TOPICS = ("users", "media", "follows", "likes", "comments", "reads", "saves")
FOREIGN_TOPICS = (*OWN_TOPICS[:6], "names", "vault", *OWN_TOPICS[6:])
FOREIGN_MAX = 4
# How many a call may carry.
TOKENS_MAX = 16
TEXT_BYTES_MAX = 196
_MAC_BYTES = 12
_KEYS_MAX = 16
_TAG_MASK = (1 << 32) - 1

Foreign = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class PositionToken:
    """`numbers`: of the caller's `partition`, by topic. `foreign`: (topic, partition, number)."""

    log_id: int
    partition: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)
    foreign: tuple[Foreign, ...] = ()

    def after(self, appended: Appended, own_partition: int) -> "PositionToken":
        """The token that also covers this event.

        Where another user goes on with it (one client, two accounts), what the first had
        written becomes foreign.
        """
        token = self
        if token.partition != own_partition:
            token = token._moved_to(own_partition)
        topic, partition, number = appended
        if topic in OWN_TOPICS and partition == own_partition:
            highest = max(token.numbers.get(topic, 0), number)
            numbers = {**token.numbers, topic: highest}
            return PositionToken(token.log_id, own_partition, numbers, token.foreign)
        if topic in FOREIGN_TOPICS:
            return replace(token, foreign=_with(token.foreign, [(topic, partition, number)]))
        raise Bug(f"no token covers topic {topic}")

    def merged(self, newer: Sequence["PositionToken"]) -> "PositionToken":
        """What covers this token and all of `newer`, the newest last, whose partition it takes.

        Nothing is left out, so it may have more than `FOREIGN_MAX` foreign places. `encode` keeps
        the last named of them: an answer to a write then covers all that was sent but the oldest
        of more than four foreign places, of which the token cannot know whether the views have
        long passed them.
        """
        if not newer:
            return self
        partition = newer[-1].partition
        own: dict[str, int] = {}
        foreign: list[Foreign] = []
        for token in (self, *newer):
            left = [(topic, token.partition, number) for topic, number in token.numbers.items()]
            for place in (*token.foreign, *left):
                topic, where, number = place
                if where == partition and topic in OWN_TOPICS:
                    own[topic] = max(own.get(topic, 0), number)
                else:
                    foreign.append(place)
        return PositionToken(self.log_id, partition, own, _highest(foreign))

    def needs(self, topics: Collection[str]) -> dict[TopicPartition, int]:
        """What a view of these topics must cover, by (topic, partition)."""
        needs = {
            (topic, self.partition): number
            for topic, number in self.numbers.items()
            if topic in topics and number
        }
        for topic, partition, number in self.foreign:
            if topic in topics:
                needs[topic, partition] = max(needs.get((topic, partition), 0), number)
        return needs

    def _moved_to(self, partition: int) -> "PositionToken":
        own = {
            topic: number
            for topic, where, number in self.foreign
            if where == partition and topic in OWN_TOPICS
        }
        elsewhere = [place for place in self.foreign if place[1] != partition]
        left = [(topic, self.partition, number) for topic, number in self.numbers.items()]
        return PositionToken(self.log_id, partition, own, _with(elsewhere, left))


def encode(token: PositionToken, key: bytes) -> str:
    own = [token.numbers.get(topic, 0) for topic in OWN_TOPICS]
    while own and not own[-1]:
        own.pop()
    message = PositionTokenBody(
        partition=token.partition, numbers=own, log_tag=token.log_id & _TAG_MASK
    )
    for topic, partition, number in token.foreign[-FOREIGN_MAX:]:
        message.foreign_topics.append(FOREIGN_TOPICS.index(topic))
        message.foreign_partitions.append(partition)
        message.foreign_numbers.append(number)
    body = message.SerializeToString()
    return base64.urlsafe_b64encode(body + _mac(body, key, token.log_id)).rstrip(b"=").decode()


def decode(text: str, key: bytes, log_id: int) -> PositionToken:
    """The token that this log gave out; an empty text is the empty token.

    Raises InvalidRequest (POSITION_TOKEN_INVALID) for what nobody here signed, and
    FailedPrecondition (POSITION_OF_ANOTHER_LOG) for a token of another log. That is told from
    its tag before its signature, whose key the other log alone has.
    """
    if not text:
        return PositionToken(log_id)
    if len(text) > TEXT_BYTES_MAX:
        raise _invalid()
    try:
        signed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", True)
        body, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
        found = PositionTokenBody.FromString(body)
    except (binascii.Error, ValueError, DecodeError):
        raise _invalid() from None
    if not hmac.compare_digest(mac, _mac(body, key, log_id)):
        if found.log_tag not in (0, log_id & _TAG_MASK):
            raise FailedPrecondition(
                "the position is of another log: forget it and go on without",
                reason="POSITION_OF_ANOTHER_LOG",
            )
        raise _invalid()
    numbers = zip(OWN_TOPICS, found.numbers, strict=False)
    return PositionToken(
        log_id,
        found.partition,
        {topic: number for topic, number in numbers if number},
        tuple(
            (FOREIGN_TOPICS[topic], partition, number)
            for topic, partition, number in zip(
                found.foreign_topics, found.foreign_partitions, found.foreign_numbers, strict=True
            )
            # A newer version beside this one may name a topic of which nothing is served here.
            if topic < len(FOREIGN_TOPICS)
        ),
    )


def decode_all(texts: Sequence[str], key: bytes, log_id: int) -> PositionToken:
    """One token that covers all that a call carries, the newest last. Raises as `decode`, and
    InvalidRequest (POSITION_TOKENS_TOO_MANY) for more than `TOKENS_MAX`.
    """
    if len(texts) == 1 and "," not in texts[0]:
        return decode(texts[0], key, log_id)
    # A proxy may join the values of one key.
    split = [one for text in texts for one in text.split(",", TOKENS_MAX)]
    if len(split) > TOKENS_MAX:
        raise InvalidRequest(
            f"at most {TOKENS_MAX} values of millrace-position", reason="POSITION_TOKENS_TOO_MANY"
        )
    oldest, *newer = [decode(one.strip(), key, log_id) for one in split or ("",)]
    return oldest.merged(newer)


class PositionTokens:
    """Reads and writes the tokens of one log. The last `remembered_max` are remembered, since a
    client sends the one that it was given until it writes again. One a process.
    """

    def __init__(self, key: bytes, log_id: int, remembered_max: int) -> None:
        self._key = key
        self._log_id = log_id
        self._remembered_max = remembered_max
        # Oldest first, as dicts keep the order of insertion.
        self._remembered: dict[str, PositionToken] = {}

    def read(self, texts: Sequence[str]) -> PositionToken:
        """As `decode_all`."""
        text = texts[0] if len(texts) == 1 else ""
        token = self._remembered.get(text)
        if token is None:
            token = decode_all(texts, self._key, self._log_id)
            self._remember(text, token)
        return token

    def write(self, token: PositionToken) -> str:
        text = encode(token, self._key)
        if len(token.foreign) <= FOREIGN_MAX:
            self._remember(text, token)
        return text

    def _remember(self, text: str, token: PositionToken) -> None:
        if not 0 < len(text) <= TEXT_BYTES_MAX:
            return
        self._remembered[text] = token
        if len(self._remembered) > self._remembered_max:
            del self._remembered[next(iter(self._remembered))]


class FutureCheck:
    """Refuses tokens that are beyond the log's end. One a process.

    The ends that were seen last are kept: only a token beyond them costs a look at the log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ends: dict[str, list[int]] = {}

    async def admit(self, token: PositionToken) -> None:
        """Raises FailedPrecondition (POSITION_FROM_THE_FUTURE), or StoreUnavailable."""
        for topic in {topic for topic, _ in token.needs(FOREIGN_TOPICS)}:
            needs = token.needs((topic,))
            if self._covered(topic, needs):
                continue
            if topic in TOPICS:
                self._ends[topic] = await self._log.ends(topic)
            if not self._covered(topic, needs):
                raise FailedPrecondition(
                    f"the position is beyond the end of {topic}",
                    reason="POSITION_FROM_THE_FUTURE",
                )

    def _covered(self, topic: str, needs: Mapping[TopicPartition, int]) -> bool:
        ends = self._ends.get(topic, ())
        return all(
            partition < len(ends) and number <= ends[partition]
            for (_, partition), number in needs.items()
        )


def _with(foreign: Iterable[Foreign], more: Iterable[Foreign]) -> tuple[Foreign, ...]:
    """The newest ones: each place once with its highest number, the last named last."""
    return _highest((*foreign, *more))[-FOREIGN_MAX:]


def _highest(places: Iterable[Foreign]) -> tuple[Foreign, ...]:
    highest: dict[TopicPartition, int] = {}
    for topic, partition, number in places:
        highest[topic, partition] = max(highest.pop((topic, partition), 0), number)
    return tuple((topic, partition, number) for (topic, partition), number in highest.items())


def _mac(body: bytes, key: bytes, log_id: int) -> bytes:
    mac = _begun(key).copy()
    mac.update(body + log_id.to_bytes(8, "big"))
    return mac.digest()[:_MAC_BYTES]


# To take in the key is most of what a signature costs, so it is done once a key.
@lru_cache(_KEYS_MAX)
def _begun(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def _invalid() -> InvalidRequest:
    return InvalidRequest("millrace-position is not one of ours", reason="POSITION_TOKEN_INVALID")
