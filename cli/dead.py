"""`millrace dead`: events that a view could not take; look at them, try them again, drop them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cli.settings_of import DataDir, settings_of_running
from millrace.clock import SystemClock
from millrace.errors import FailedPrecondition, InvalidRequest, MillraceError, NotFound, PoisonEvent
from millrace.log.codec import decode
from millrace.log.described import described, time_of
from millrace.log.event_id import EventId, event_id
from millrace.log.kafka import KafkaLog
from millrace.log.letters import DEAD, DEAD_TOPICS, Letter, event_of, letters_at, read_letters
from millrace.log.topics import DEAD_SUFFIX
from millrace.settings import Settings
from millrace.views import VIEW_BY_NAME
from streams.dead_letters import DeadLetterDesk

PAGE_LETTERS = 50
# Delivery's letters are of the feed, which is no view of the projector's.
READERS = (*VIEW_BY_NAME, "feed")
_REASON_SHOWN_MAX = 60

Ids = Annotated[list[str], typer.Argument(help="ids as `millrace dead list` prints them")]
ViewName = Annotated[str, typer.Option("--view", help="only letters of this view")]
TopicName = Annotated[str, typer.Option("--topic", help="only events of this topic")]

commands = typer.Typer(no_args_is_help=True, help="Events that a view could not take.")


@commands.command("list")
def list_letters(
    view: ViewName = "",
    topic: TopicName = "",
    every: Annotated[bool, typer.Option("--all", help="those that were decided, too")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="of a page")] = PAGE_LETTERS,
    after: Annotated[str, typer.Option(help="go on after this id")] = "",
    data: DataDir = None,
) -> None:
    """Show dead letters, oldest first, and how many each view has."""
    _check(view)
    settings = settings_of_running(data)
    found = asyncio.run(_letters(settings, view, topic))
    shown = [letter for letter in found if every or letter.state == DEAD]
    start = _after(found, after)
    page = [one for one in shown if _place(one) > start][:limit]
    if page:
        Console().print(_table(page))
    print(_counted(found))
    if page and page[-1] is not shown[-1]:
        print(f"more: --after {page[-1].id}")


@commands.command("show")
def show(letter: str, data: DataDir = None) -> None:
    """Show one letter: why, and the event. Personal text stays sealed."""
    settings = settings_of_running(data)
    for line in asyncio.run(_story(settings, event_id(letter, settings.log_partitions))):
        print(line)


@commands.command("retry")
def retry(
    letters: Annotated[list[str] | None, typer.Argument(help="ids from the list")] = None,
    every: Annotated[bool, typer.Option("--all", help="every dead letter of --view")] = False,
    view: ViewName = "",
    again: Annotated[bool, typer.Option("--again", help="also what was decided already")] = False,
    data: DataDir = None,
) -> None:
    """Write the events again, each at its old place in its row: newer events stay what counts."""
    if every == bool(letters) or every != bool(view) or (every and again):
        raise InvalidRequest("name letters, with or without --again, or --all and a --view")
    _check(view)
    settings = settings_of_running(data)
    asyncio.run(_retry(settings, letters or (), view, again))


@commands.command("drop")
def drop(letters: Ids, data: DataDir = None) -> None:
    """Put letters away: they are listed no more. The log keeps them, and that they were dropped."""
    settings = settings_of_running(data)
    asyncio.run(_drop(settings, letters))


async def _letters(settings: Settings, view: str, topic: str) -> list[Letter]:
    dead = topic.removesuffix(DEAD_SUFFIX) + DEAD_SUFFIX
    if topic and dead not in DEAD_TOPICS:
        raise InvalidRequest(f"no dead letters of a topic {topic!r}")
    async with _opened(settings) as log:
        found = await read_letters(log, [dead] if topic else DEAD_TOPICS)
    return [letter for letter in found if view in ("", letter.view)]


async def _story(settings: Settings, letter_id: EventId) -> list[str]:
    async with _opened(settings) as log:
        (letter,) = await letters_at(log, [letter_id])
        became = f" as {letter.retried_as}" if letter.retried_as else ""
        lines = [
            f"letter {letter.id}, {letter.state}{became}",
            f"view {letter.view} could not take {letter.event} at {time_of(letter.at_ms)}",
            f"because: {letter.reason}",
        ]
        if letter.order != letter.event.number:
            lines.append(f"which is event {letter.order}, tried again")
        try:
            record = await event_of(log, letter)
            event = decode(record)
        except (NotFound, PoisonEvent) as error:
            return [*lines, f"the event cannot be read: {error.message}"]
        lines.append(f"{event.message.DESCRIPTOR.name}, key {record.key.hex()}")
        return lines + [f"  {name}: {value}" for name, value in described(event.message)]


async def _retry(settings: Settings, ids: Sequence[str], view: str, again: bool) -> None:
    refused = 0
    async with _opened(settings) as log:
        if ids:
            letters = await letters_at(log, [event_id(one, log.partitions) for one in ids])
        else:
            found = await read_letters(log)
            letters = [one for one in found if one.view == view and one.state == DEAD]
        desk = DeadLetterDesk(log, SystemClock())
        for letter in letters:
            try:
                print(f"{letter.id}: {letter.event} is now {await desk.retry(letter, again=again)}")
            except (FailedPrecondition, NotFound) as error:
                refused += 1
                print(f"{letter.id}: {error.message}")
    if refused:
        raise MillraceError(f"{refused} of {len(letters)} letters were not tried again")
    print(f"{len(letters)} letters were tried again")


async def _drop(settings: Settings, ids: Sequence[str]) -> None:
    refused = 0
    async with _opened(settings) as log:
        letters = await letters_at(log, [event_id(one, log.partitions) for one in ids])
        desk = DeadLetterDesk(log, SystemClock())
        for letter in letters:
            try:
                await desk.drop(letter)
                print(f"{letter.id} is dropped")
            except FailedPrecondition as error:
                refused += 1
                print(error.message)
    if refused:
        raise MillraceError(f"{refused} of {len(letters)} letters were not dropped")


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(settings)
    try:
        yield log
    finally:
        await log.close()


def _check(view: str) -> None:
    if view and view not in READERS:
        raise InvalidRequest(f"no view {view!r}: there are {', '.join(READERS)}")


def _place(letter: Letter) -> tuple[int, EventId]:
    return letter.at_ms, letter.id


def _after(letters: Sequence[Letter], after: str) -> tuple[int, EventId]:
    """Where a page begins, also when its last letter has been decided meanwhile."""
    if not after:
        return 0, EventId("", 0, 0)
    for letter in letters:
        if str(letter.id) == after:
            return _place(letter)
    raise InvalidRequest(f"--after {after}: no such letter in this list")


def _table(letters: Sequence[Letter]) -> Table:
    # Whole ids, so that they can be copied.
    widths = [max(len(str(one)) for one in ids) for ids in _ids(letters)]
    first, event = (Column(no_wrap=True, min_width=width) for width in widths)
    first.header, event.header = "letter", "event"
    table = Table(first, "view", event, "since", "state", "reason")
    for one in letters:
        state = f"retried as {one.retried_as.number}" if one.retried_as else one.state
        reason = one.reason.splitlines()[0] if one.reason else ""
        if len(reason) > _REASON_SHOWN_MAX:
            reason = reason[: _REASON_SHOWN_MAX - 1] + "…"
        row = (str(one.id), one.view, str(one.event), time_of(one.at_ms), state, reason)
        table.add_row(*map(escape, row))
    return table


def _ids(letters: Sequence[Letter]) -> tuple[list[EventId], list[EventId]]:
    return [letter.id for letter in letters], [letter.event for letter in letters]


def _counted(letters: Sequence[Letter]) -> str:
    dead = Counter(letter.view for letter in letters if letter.state == DEAD)
    views = ", ".join(f"{view} {count}" for view, count in sorted(dead.items()))
    decided = len(letters) - dead.total()
    return f"{dead.total()} dead" + (f" ({views})" if views else "") + f", {decided} decided"
