"""The dead letters of the log, and what was decided about each.

A letter is known by view and event: what was written twice is one letter, named by its first
record (`likes.dead/3/5`). It is *dead* until somebody decides; then *retried* or *dropped*.

Whoever builds a view again from the log passes over every event that has a letter of this view,
whatever was decided about it: `PassedOver` tells which. What a retry appended is an event of its
own, further on in the log, and is read there.

Not: deciding (`streams.dead_letters`).
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from millrace.errors import FailedPrecondition, InvalidRequest, NotFound
from millrace.log.event_id import EventId, id_of
from millrace.log.port import ReadingLog, Record, TopicPartition
from millrace.log.reading import record_at, records_after
from millrace.log.topics import DEAD_SUFFIX, TOPICS
from millrace.observe import logs
from social.log.v1 import dead_pb2
from social.log.v1.dead_pb2 import DeadLetter

logger = logs.logger("log.letters")

DEAD_TOPICS = tuple(topic for topic in TOPICS if topic.endswith(DEAD_SUFFIX))
_RETRIED = dead_pb2.DEAD_LETTER_DECISION_RETRIED
_DROPPED = dead_pb2.DEAD_LETTER_DECISION_DROPPED
_STATES = {_RETRIED: "retried", _DROPPED: "dropped"}
DEAD = "dead"
LETTERS_MAX = 200_000


class LetterKey(NamedTuple):
    """`event`: what the view could not take."""

    view: str
    event: EventId


@dataclass(slots=True)
class Letter:
    """`id`: of its first record. `order`: what orders the event within its row. `state`: dead,
    retried or dropped; `retried_as`: the event that the last retry appended.
    """

    id: EventId
    view: str
    event: EventId
    order: int
    at_ms: int
    reason: str
    state: str = DEAD
    retried_as: EventId | None = None


async def read_letters(log: ReadingLog, topics: Iterable[str] = DEAD_TOPICS) -> list[Letter]:
    """All letters in these `.dead` topics, oldest first. Memory: one small entry a letter.

    Raises FailedPrecondition for more than `LETTERS_MAX`.
    """
    places = [(topic, one) for topic in topics for one in range(log.partitions_of(topic))]
    found: dict[LetterKey, Letter] = {}
    async for record, message in _messages(log, places):
        _fold(found, record, message)
        _check_bound(len(found))
    return sorted(found.values(), key=lambda letter: (letter.at_ms, letter.id))


async def letters_at(log: ReadingLog, ids: Sequence[EventId]) -> list[Letter]:
    """The letters of these ids, which may be those of any of their records; each letter once.

    Raises InvalidRequest for the id of something else, NotFound for one that is no letter's.
    """
    for one in ids:
        if one.topic not in DEAD_TOPICS:
            raise InvalidRequest(f"{one} is no dead letter: those are in {', '.join(DEAD_TOPICS)}")
    keys: dict[EventId, LetterKey] = {}
    found: dict[LetterKey, Letter] = {}
    async for record, message in _messages(log, [(one.topic, one.partition) for one in ids]):
        _fold(found, record, message)
        if id_of(record) in ids:
            keys[id_of(record)] = _key(message)
    for one in ids:
        if keys.get(one) not in found:
            raise NotFound(f"there is no dead letter {one}")
    return [found[key] for key in dict.fromkeys(keys[one] for one in ids)]


async def letters_of(log: ReadingLog, event: EventId) -> list[Letter]:
    """The letters of one event: at most one a view, none where its topic has none."""
    place = (event.topic + DEAD_SUFFIX, event.partition)
    found: dict[LetterKey, Letter] = {}
    if place[0] in TOPICS:
        async for record, message in _messages(log, [place]):
            if _key(message).event == event:
                _fold(found, record, message)
    return list(found.values())


async def event_of(log: ReadingLog, letter: Letter) -> Record:
    """What the view could not take, as the log has it; else as the letter has it, if it has all.

    Raises NotFound where neither does.
    """
    try:
        return await record_at(log, letter.event)
    except NotFound:
        message = _read(await record_at(log, letter.id))
        if message is None or not message.HasField("value"):
            raise
        return Record(*letter.event, message.key, message.value)


class PassedOver:
    """The events of one view that are or were its dead letters: whoever builds it again passes
    over them. Memory: one entry a letter.
    """

    def __init__(self, log: ReadingLog, view: str, topics: Iterable[str]) -> None:
        self._log = log
        self._view = view
        dead = [topic + DEAD_SUFFIX for topic in topics if topic + DEAD_SUFFIX in TOPICS]
        self._positions = {(topic, n): 0 for topic in dead for n in range(log.partitions_of(topic))}
        self._events: set[EventId] = set()

    async def refresh(self) -> None:
        """Read on. The letter of each event that a view has passed is there when it has."""
        async for record in records_after(self._log, self._positions):
            self._positions[record.topic, record.partition] = record.number
            message = _read(record)
            if message is not None and message.view == self._view:
                self._events.add(_key(message).event)
                _check_bound(len(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, event: tuple[str, int, int]) -> bool:
        return event in self._events


def _check_bound(letters: int) -> None:
    if letters > LETTERS_MAX:
        raise FailedPrecondition(
            f"more than {LETTERS_MAX:,} dead letters: name one topic",
            reason="TOO_MANY_DEAD_LETTERS",
        )


def _key(message: DeadLetter) -> LetterKey:
    return LetterKey(message.view, EventId(message.topic, message.partition, message.number))


async def _messages(
    log: ReadingLog, places: Iterable[TopicPartition]
) -> AsyncIterator[tuple[Record, DeadLetter]]:
    async for record in records_after(log, dict.fromkeys(places, 0)):
        if message := _read(record):
            yield record, message


def _read(record: Record) -> DeadLetter | None:
    try:
        return DeadLetter.FromString(record.value or b"")
    except DecodeError:
        logger.warning("unreadable letter", topic=record.topic, number=record.number)
        return None


def _fold(found: dict[LetterKey, Letter], record: Record, message: DeadLetter) -> None:
    key = _key(message)
    if not message.HasField("decided"):
        found.setdefault(
            key,
            Letter(
                id_of(record),
                message.view,
                key.event,
                message.order or message.number,
                message.at_ms,
                message.reason,
            ),
        )
        return
    letter, decided = found.get(key), message.decided
    # Of a newer version, or about a letter that nobody knows: it changes nothing here.
    if letter is None or decided.decision not in _STATES:
        return
    letter.state = _STATES[decided.decision]
    if decided.decision == _RETRIED:
        letter.retried_as = key.event._replace(number=decided.retry_number)
