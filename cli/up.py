"""`millrace up`: the servers and Millrace's processes, until Ctrl-C."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.installation import start_own
from cli.live_view import LiveView
from deploy.local.stack import DATA_DIR_DEFAULT, LocalStack, StackSettings
from deploy.local.watch import RestartPolicy


def up(
    data: Annotated[Path, typer.Option(help="data directory")] = DATA_DIR_DEFAULT,
    usual_ports: Annotated[bool, typer.Option(help="take the well-known ports if free")] = True,
    stop_on_death: Annotated[
        bool, typer.Option("--stop-on-death", help="stop all when a process dies")
    ] = False,
) -> None:
    """Start everything on this machine and stay until Ctrl-C; data are kept."""
    restarts = RestartPolicy(on_death="stop the stack" if stop_on_death else "restart")
    asyncio.run(_up(StackSettings(data_dir=data, usual_ports=usual_ports, restarts=restarts)))


async def _up(settings: StackSettings) -> None:
    view = LiveView(Console())
    stack = LocalStack(settings, report=view.tell)

    async def work() -> None:
        view.opened(await start_own(stack, told=lambda step: view.tell(f"preparing: {step}")))
        view.tell(f"logs: {stack.data_dir / 'logs'}")
        view.tell("ready; Ctrl-C stops")
        await stack.until_over()

    drawing = asyncio.create_task(view.run(stack))
    try:
        await stack.serve(work)
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing
