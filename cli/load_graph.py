"""`millrace load-graph FILE`: a follow graph into the log."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.settings_of import DataDir, settings_of_running
from cli.stores import open_stores
from millrace.auth.keys import load_keys
from millrace.clock import SystemClock
from millrace.settings import Settings
from millrace.traffic.graph import read_graph
from millrace.traffic.graph_load import load_graph as load
from millrace.views import lag

_CATCH_UP_S = 600.0


def load_graph(
    file: Annotated[Path, typer.Argument(help="edges, `follower followee` a line; may be gzip")],
    data: DataDir = None,
) -> None:
    """Load a follow graph as events, then wait until the views have it."""
    settings = settings_of_running(data)
    asyncio.run(_load(settings, read_graph(file)))


async def _load(settings: Settings, following: list[list[int]]) -> None:
    clock = SystemClock()
    keys = load_keys(settings.keys_dir)
    async with open_stores(settings) as stores:
        ids = await load(stores.log, keys, clock, settings, following, print)
        if ids:
            print(f"in the log: users {ids[0]} to {ids[-1]}; the views catch up")
        await lag.wait_until_none(stores, clock, timeout_s=_CATCH_UP_S)
    print("done")
