"""What an operator decides about a dead letter: it is tried again, or dropped.

A retry appends the event again, in its partition, with the number that orders it in a header. The
order decides only within its row: what newer events have written stays. What the event begins has
the retry's own number, so that nobody who has gone on with the log misses it. Views that had
taken the event find their rows as new as it, and do nothing.

Each decision is itself a record beside the letter. A retry that was not acknowledged, or whose
decision was not, may be asked for again: the second one finds the row as new as itself.

Takes the log and the clock as arguments. Not: which letters there are (`millrace.log.letters`).
"""

from dataclasses import dataclass

from millrace.clock import Clock
from millrace.errors import FailedPrecondition
from millrace.log.event_id import EventId
from millrace.log.letters import DEAD, Letter, event_of
from millrace.log.port import ORDER_HEADER, Log
from millrace.log.reading import records_after
from millrace.log.topics import TOPICS
from social.log.v1 import dead_pb2
from social.log.v1.dead_pb2 import DeadLetter, DeadLetterDecided

ORDER_BYTES = 8


@dataclass(frozen=True, slots=True)
class DeadLetterDesk:
    """One letter at a time. A letter is as it was when it was read: two operators who decide at
    once do no harm, and the last one counts.
    """

    log: Log
    clock: Clock

    async def retry(self, letter: Letter, *, again: bool = False) -> EventId:
        """Append the event again; returns the new event's id.

        Raises FailedPrecondition for a letter that was decided, unless `again`, and for a secret
        that a newer one has replaced; NotFound where the log holds the event no longer;
        OutcomeUnknown as `Log.append` does.
        """
        _check_open(letter, again)
        record = await event_of(self.log, letter)
        if TOPICS[record.topic].compacted:
            await self._check_newest(letter, record.key)
        appended = await self.log.append(
            record.topic,
            record.key,
            record.value,
            partition=record.partition,
            headers={ORDER_HEADER: letter.order.to_bytes(ORDER_BYTES, "big")},
        )
        decided = DeadLetterDecided(
            decision=dead_pb2.DEAD_LETTER_DECISION_RETRIED, retry_number=appended.number
        )
        await self._decide(letter, decided)
        return EventId(*appended)

    async def drop(self, letter: Letter) -> None:
        """The letter is not listed any more. Raises FailedPrecondition for one that was decided."""
        _check_open(letter, again=False)
        dropped = DeadLetterDecided(decision=dead_pb2.DEAD_LETTER_DECISION_DROPPED)
        await self._decide(letter, dropped)

    async def _check_newest(self, letter: Letter, key: bytes) -> None:
        """Of a compacted topic only the newest record of a key is kept: a retry after a newer
        one would be that, and the log would forget what counts.
        """
        place = (letter.event.topic, letter.event.partition)
        async for record in records_after(self.log, {place: letter.event.number}):
            if record.key == key:
                raise FailedPrecondition(
                    f"{letter.event} was replaced by event {record.number} of its key: drop it"
                )

    async def _decide(self, letter: Letter, decided: DeadLetterDecided) -> None:
        decision = DeadLetter(
            view=letter.view,
            topic=letter.event.topic,
            partition=letter.event.partition,
            number=letter.event.number,
            at_ms=self.clock.now_ms(),
            decided=decided,
        )
        await self.log.append(
            letter.id.topic, b"", decision.SerializeToString(), partition=letter.id.partition
        )


def _check_open(letter: Letter, again: bool) -> None:
    if letter.state == DEAD or again:
        return
    became = f" as {letter.retried_as}" if letter.retried_as else ""
    raise FailedPrecondition(f"letter {letter.id} was {letter.state}{became} already")
