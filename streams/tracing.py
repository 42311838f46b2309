"""One event followed through the log, positions, epochs, rows and feeds, told as a story.

A story is chapters: a title and lines. Everything is as it is now, and read only. Personal text
is left out unless `texts`, which shows what the views hold; nothing is unsealed.

Takes the stores as arguments. Not: the fan-out of a post (`tracing_feed`).
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from millrace.errors import NewerEvent, PoisonEvent
from millrace.log.codec import Event, decode
from millrace.log.described import described, time_of
from millrace.log.event_id import EventId, id_of
from millrace.log.letters import Letter, letters_of
from millrace.log.port import ORDER_HEADER, Record
from millrace.log.reading import record_at
from millrace.relations import View
from millrace.stores.port import StoredPosition
from millrace.views import VIEWS
from millrace.views.lag import CHUNKS, DELIVERY, Stores
from social.log.v1.media_pb2 import MediaUploaded
from social.log.v1.progress_pb2 import ViewProgress
from streams import tracing_feed, tracing_rows
from streams.progress import published


@dataclass
class Chapter:
    title: str
    lines: list[str] = field(default_factory=list)


class _Reading(NamedTuple):
    """What is needed to tell where a view is with an event."""

    event: EventId
    letters: list[Letter]
    progress: dict[str, ViewProgress]


async def trace(
    stores: Stores, event_id: EventId, *, texts: bool = False
) -> AsyncIterator[Chapter]:
    """Chapter by chapter, as each is known. Raises as `record_at` before the first."""
    record = await record_at(stores.log, event_id)
    event, why = _decoded(record)
    yield Chapter(f"The log has {event_id}", list(_record(record, event, why)))
    readers = [view for view in VIEWS if event_id.topic in view.topics]
    letters = await letters_of(stores.log, event_id)
    if readers:
        reading = _Reading(event_id, letters, await published(stores.log))
        for view in readers:
            yield await _of_view(stores, view, event, reading, texts)
    elif event_id.topic in CHUNKS:
        yield Chapter("Delivery", [await _delivery(stores, event_id), *map(_letter, letters)])
    else:
        yield Chapter("Views", [f"No view reads topic {event_id.topic}."])
    if event is not None and isinstance(event.message, MediaUploaded):
        told = tracing_feed.fan_out(stores, event, event.message.media_id)
        yield Chapter("Feeds", [line async for line in told])


def _decoded(record: Record) -> tuple[Event | None, str]:
    try:
        return decode(record), ""
    except (PoisonEvent, NewerEvent) as error:
        return None, error.message


def _record(record: Record, event: Event | None, why: str) -> Iterable[str]:
    size = "no value" if record.value is None else f"{len(record.value):,} bytes"
    yield f"Appended at {time_of(record.appended_ms)} (UTC) with key {record.key.hex()}, {size}."
    if ORDER_HEADER in record.headers and event is not None:
        old = id_of(record)._replace(number=event.order)
        yield f"It is {old}, a dead letter, tried again: that number orders it within its row."
    if event is None:
        yield f"Nobody can read it: {why}."
        return
    if event.trace:
        yield f"It was written by the call with trace {event.trace}."
    yield f"It says {event.message.DESCRIPTOR.name}:"
    for name, value in described(event.message):
        yield f"  {name}: {value}"


async def _of_view(
    stores: Stores, view: View, event: Event | None, reading: _Reading, texts: bool
) -> Chapter:
    chapter = Chapter(f"View {view.name}")
    stored = await stores.views.positions(view.name)
    position = stored.get((reading.event.topic, reading.event.partition))
    chapter.lines += _place(view, position, reading)
    chapter.lines += [_letter(one) for one in reading.letters if one.view == view.name]
    if event is not None:
        chapter.lines += await tracing_rows.rows(stores.views, view, event, texts=texts)
    return chapter


def _letter(letter: Letter) -> str:
    became = f" as {letter.retried_as}" if letter.retried_as else ""
    why = f"{letter.id}, {letter.state}{became}, because: {letter.reason}"
    return f"It could not take the event: letter {why}"


def _place(view: View, position: StoredPosition | None, reading: _Reading) -> Iterable[str]:
    event = reading.event
    if position is None:
        yield "It has no positions yet: no projector has opened it."
        return
    behind = event.number - position.position
    there = "has passed the event" if behind <= 0 else f"is {behind:,} records before the event"
    where = f"epoch {position.epoch} of log {position.log_id:x}"
    yield f"Its position is {position.position} in {where}: it {there}."
    told = reading.progress.get(view.name)
    if told is None:
        yield "It has published no progress."
        return
    numbers = {one.topic: one.numbers for one in told.topics}.get(event.topic, ())
    number = numbers[event.partition] if event.partition < len(numbers) else 0
    yield f"It has published {number} in epoch {told.epoch}."
    if (told.epoch, number) > (position.epoch, position.position):
        yield "So it has gone back, and its epoch will rise."


async def _delivery(stores: Stores, event: EventId) -> str:
    place = (event.topic, event.partition)
    position = (await stores.feeds.positions(DELIVERY, [place])).get(place, 0)
    behind = event.number - position
    there = "has passed it" if behind <= 0 else f"is {behind:,} chunks before it"
    return f"Delivery's position is {position}: it {there}."
