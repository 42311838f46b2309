"""`millrace replay`: views built again from the log beside the served ones, compared, switched.

What a name stands for is an entry of `KINDS`. Nothing here can write to the log: an import rule
keeps its producer out.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from cli import replay_feed
from cli.amounts import above_0, not_below
from cli.replay_bar import ReplayBar, slowed
from cli.settings_of import DataDir, settings_of_running
from millrace import collector
from millrace.auth.keys import load_keys
from millrace.auth.sealing import open_secret, open_text
from millrace.clock import SystemClock
from millrace.errors import InvalidRequest, MillraceError
from millrace.log.control import read_identity
from millrace.log.kafka_reading import KafkaReading
from millrace.settings import Settings
from millrace.stores.postgres import PostgresStore
from millrace.views import VIEW_BY_NAME, vault
from millrace.views.data_keys import DataKeys, TextOpener
from streams.replay import (
    Replayed,
    ReplayParts,
    Wanted,
    drop_beside,
    replay_view,
    roll_back,
    status_of,
)

ALL = "all"
_BACK = "what was served before is served again; the other is kept until --drop-old"
_GOES_ON = "ended; the same command goes on where it was, --drop-old drops what was begun"
_VALUE_CHARACTERS_MAX = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be replayed under one name. `replay` says how the two differ, or nothing; what
    differs is switched only where that was accepted. `status` is one line.
    """

    replay: Callable[[Settings, Wanted, Console], Awaitable[str]]
    roll_back: Callable[[Settings], Awaitable[None]]
    drop_old: Callable[[Settings], Awaitable[str]]
    status: Callable[[Settings], Awaitable[str]]


def replay(
    names: Annotated[list[str], typer.Argument(help="views, or all", metavar="VIEW…")],
    events_per_s: Annotated[
        float | None, typer.Option(help="at most; 0 for as fast as it goes", min=0)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="of the time at work, above 0, at most 1; it rests else", max=1.0),
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="compare before the switch; not when what is served was lost")
    ] = True,
    switch: Annotated[bool, typer.Option(help="serve what was built, where it is equal")] = True,
    accept: Annotated[bool, typer.Option(help="switch even where the two differ")] = False,
    differences: Annotated[int, typer.Option(help="rows to show of each table", min=0)] = 20,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="serve the old tables again")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="drop what lies beside: old, or half built")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="what lies beside, and how far")] = False,
    data: DataDir = None,
) -> None:
    """Build views again from the log, beside those that are served, while traffic goes on.

    A view is built, compared with the served one at one position and, where they are equal,
    switched without a failed request; the old one is kept until --drop-old. Killed at any moment,
    the same command goes on where it was. It sends nothing and writes no event.
    """
    chosen = _chosen(names)
    if sum((rollback, drop_old, status)) > 1:
        raise InvalidRequest("one of --rollback, --drop-old and --status")
    if share is not None:
        above_0("--share", share, 1.0)
    if events_per_s is not None:
        not_below("--events-per-s", events_per_s, 0)
    settings = settings_of_running(data)
    rate = settings.replay_events_per_s_max if events_per_s is None else events_per_s
    share = settings.replay_share_max if share is None else share
    wanted = Wanted(compare, accept, switch, rate, share, differences)
    console = Console()

    async def run() -> None:
        # As every process of Millrace does before its work.
        collector.settle(settings.collector_objects)
        for name in chosen:
            kind = KINDS[name]
            if status:
                said = f"{name}: {await kind.status(settings)}"
                console.print(said, highlight=False, soft_wrap=True)
            elif rollback:
                await kind.roll_back(settings)
                console.print(f"{name}: {_BACK}", highlight=False, soft_wrap=True)
            elif drop_old:
                dropped = await kind.drop_old(settings)
                console.print(f"{name}: {dropped}", highlight=False)
        if not (status or rollback or drop_old):
            await _replay_each(chosen, settings, wanted, console)

    try:
        uvloop.run(run())
    except KeyboardInterrupt:
        if not (status or rollback or drop_old):
            Console(stderr=True).print(_GOES_ON, highlight=False, soft_wrap=True)
        raise


async def _replay_each(
    names: Sequence[str], settings: Settings, wanted: Wanted, console: Console
) -> None:
    """A view that differs is another table than the next one, which does not wait for it. Raises
    MillraceError for all that differ, and at once for what keeps a view from being built.
    """
    differing: list[str] = []
    for name in names:
        try:
            said = await KINDS[name].replay(settings, wanted, console)
        except MillraceError:
            for one in differing:
                console.print(one, highlight=False, soft_wrap=True)
            raise
        if said:
            differing.append(said)
    if differing:
        raise MillraceError("; ".join(differing))


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name != ALL and name not in KINDS:
            raise InvalidRequest(f"unknown view {name!r}; there are {', '.join([*KINDS, ALL])}")
    return list(KINDS) if ALL in names else list(dict.fromkeys(names))


def _view_kind(name: str) -> Kind:
    view = VIEW_BY_NAME[name]

    async def replay(settings: Settings, wanted: Wanted, console: Console) -> str:
        bar = ReplayBar(Console(stderr=True), slowed("events", wanted.events_per_s, wanted.share))
        async with _parts(settings, lambda *told: bar.told(name, *told)) as parts:
            bar.start()
            try:
                done = await replay_view(view, parts, wanted)
            finally:
                bar.stop()
        _print(console, done)
        if wanted.switch and not done.switched:
            return f"{name} differs from what is served, and was not switched; --accept switches"
        return f"{name} differs from what was served" if done.differs else ""

    async def back(settings: Settings) -> None:
        async with _parts(settings) as parts:
            await roll_back(view, parts)

    async def drop(settings: Settings) -> str:
        async with _parts(settings) as parts:
            phase = await drop_beside(view, parts)
        return f"dropped what was beside it ({phase})" if phase else "nothing lies beside it"

    async def status(settings: Settings) -> str:
        async with _parts(settings) as parts:
            return await status_of(view, parts)

    return Kind(replay, back, drop, status)


# Data keys before the texts that they open.
KINDS: dict[str, Kind] = {
    name: _view_kind(name) for name in dict.fromkeys([vault.VIEW.name, *VIEW_BY_NAME])
}
KINDS[replay_feed.NAME] = Kind(
    replay_feed.replay, replay_feed.back, replay_feed.drop, replay_feed.status
)


@contextlib.asynccontextmanager
async def _parts(
    settings: Settings, told: Callable[[str, int, int], None] = lambda *_: None
) -> AsyncIterator[ReplayParts]:
    clock, log, master = SystemClock(), KafkaReading(settings), load_keys(settings.keys_dir).master
    async with contextlib.AsyncExitStack() as opened:
        opened.push_async_callback(log.close)
        identity = await read_identity(log)
        served = await PostgresStore.open(settings)
        opened.push_async_callback(served.close)
        keys = DataKeys(
            served,
            log,
            clock,
            lambda key, box: open_secret(master, key, box),
            cached_max=settings.data_keys_cached_max,
            wait_s=settings.apply_wait_s,
        )
        opener = TextOpener(keys, open_text)
        yield ReplayParts(settings, clock, log, identity.log_id, opener, told)


def _print(console: Console, done: Replayed) -> None:
    said = f"{done.view}: {done.events:,} events in {done.seconds:.1f} s"
    console.print(f"{said} ({done.rate:,.0f}/s)" if done.events else said, highlight=False)
    if done.tables:
        _print_tables(console, done)
    if done.dead_count:
        console.print(f"{done.dead_count:,} events could not be taken; the first:", highlight=False)
        for dead in done.dead:
            place = f"{dead.topic}/{dead.partition} {dead.number}"
            console.print(f"  {place}: {dead.reason}", highlight=False, markup=False)
    if done.switched:
        console.print(
            f"{done.view} is served from what was built; the old one is kept:"
            f" `millrace replay {done.view} --rollback` or --drop-old",
            highlight=False,
            soft_wrap=True,
        )


def _print_tables(console: Console, done: Replayed) -> None:
    drawn = Table("table", box=None, padding=(0, 2, 0, 0))
    for column in ("served", "replayed", "ranges", "of them differ", "rows differ"):
        drawn.add_column(column, justify="right")
    for table in done.tables:
        counts = (table.served, table.replayed, table.ranges, table.ranges_different)
        drawn.add_row(table.table, *(f"{count:,}" for count in (*counts, table.different)))
    console.print(drawn)
    for table in done.tables:
        for one in table.first:
            shown = f"{one.table} {_short(one.key)}: served {_short(one.served)}"
            line = f"  {shown}, replayed {_short(one.replayed)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _short(values: tuple[object, ...] | None) -> str:
    if values is None:
        return "nothing"
    shown = ", ".join(repr(value) for value in values)
    return f"({shown})" if len(shown) <= _VALUE_CHARACTERS_MAX else f"({shown[:60]}…)"
