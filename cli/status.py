"""`millrace status`: what runs in a data directory, from another terminal."""

import asyncio

from rich.console import Console
from rich.table import Table

from cli.settings_of import DataDir, settings_of
from cli.stores import open_stores
from deploy.local import status as stack_status
from deploy.local.stack import DATA_DIR_DEFAULT
from millrace.errors import FailedPrecondition
from millrace.views import lag


def status(data: DataDir = None) -> None:
    """Show processes, addresses and lag of a running stack."""
    folder = data or DATA_DIR_DEFAULT
    found = stack_status.read(folder)
    if found is None or not found.running():
        raise FailedPrecondition(f"nothing runs in {folder}")
    table = Table("process", "state", "pid", "restarts", "log")
    for name, child in found.children.items():
        pid = str(child.process.pid) if child.process else "-"
        table.add_row(name, child.state, pid, str(child.restarts), child.log)
    console = Console()
    console.print(table)
    console.print(f"gRPC at {found.settings.get('grpc_address', 'no address yet')}")
    console.print(asyncio.run(_lag(data)))


async def _lag(data: DataDir) -> str:
    async with open_stores(settings_of(data)) as stores:
        behind = await lag.measure(stores)
    views = ", ".join(f"{name} {count}" for name, count in behind.views.items())
    return f"records behind: {views}, planning {behind.planning}, delivery {behind.delivery}"
