"""`millrace status`: what runs in a data directory, from another terminal."""

import asyncio

from rich.console import Console
from rich.table import Table

from cli.settings_of import DataDir, check_running, settings_of
from cli.stores import open_stores
from deploy.local.stack import DATA_DIR_DEFAULT
from millrace.views import lag


def status(data: DataDir = None) -> None:
    """Show processes, addresses and lag of a running stack."""
    found = check_running(data or DATA_DIR_DEFAULT)
    table = Table("process", "state", "pid", "restarts")
    for name, child in found.children.items():
        pid = str(child.process.pid) if child.process else "-"
        table.add_row(name, child.state, pid, str(child.restarts))
    console = Console()
    console.print(table)
    # Plain and unbroken, so that paths and addresses can be copied.
    print(f"logs in {found.data_dir}/logs")
    print(f"gRPC at {found.settings.get('grpc_address', 'no address yet')}")
    print(asyncio.run(_lag(data)))


async def _lag(data: DataDir) -> str:
    async with open_stores(settings_of(data)) as stores:
        behind = await lag.measure(stores)
    views = ", ".join(f"{name} {count}" for name, count in behind.views.items())
    return f"records behind: {views}, planning {behind.planning}, delivery {behind.delivery}"
