"""`millrace trace`: one event, followed through the log, the views and the feeds."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from cli.settings_of import DataDir, settings_of_running
from cli.stores import open_stores
from millrace.settings import Settings
from streams.traced_ids import meant
from streams.tracing import trace as chapters

Event = Annotated[
    str,
    typer.Argument(
        help="topic/partition/number, such as media/3/17; or media:ID, comment:ID, user:ID,"
        " request:USER_ID/REQUEST_ID"
    ),
]
Texts = Annotated[
    bool, typer.Option("--text", help="show the text that rows hold; events stay sealed")
]


def trace(event: Event, text: Texts = False, data: DataDir = None) -> None:
    """Follow one event: record, positions, epochs, dead letters, rows, and who has it in his feed.

    Reads only. Everything is told as it is now.
    """
    asyncio.run(_trace(settings_of_running(data), event, text))


async def _trace(settings: Settings, event: str, texts: bool) -> None:
    # Plain where nobody looks; long lines are left whole, so that they can be copied.
    console = Console(soft_wrap=True, highlight=False, markup=False)
    async with open_stores(settings) as stores:
        found = await meant(stores.views, event, stores.log.partitions)
        async for chapter in chapters(stores, found, texts=texts):
            console.print(chapter.title, style="bold")
            for line in chapter.lines:
                console.print(f"  {line}")
