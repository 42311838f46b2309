"""Which installation a command means: the environment's, or the stack of a data directory."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local import status
from deploy.local.stack import DATA_DIR_DEFAULT
from deploy.local.status import NotRunning
from millrace.settings import Settings, settings, settings_with

DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="data directory of a local stack", show_default=".millrace"),
]


def settings_of(data: Path | None) -> Settings:
    """The settings of the environment; with a data directory, or where the environment names no
    stack and the usual directory has one, those of its stack, whether it runs or not.

    Raises NotRunning where no stack was ever started.
    """
    if data is not None and not (data / status.FILE).exists():
        raise NotRunning(f"no stack was ever started in {data}")
    folder = _local_stack(data)
    if folder is None:
        return settings()
    return settings_with(stack_file=str(folder / status.FILE))


def settings_of_running(data: Path | None) -> Settings:
    """The same for a command that asks the servers. Raises NotRunning for a stack that is down."""
    found = settings_of(data)
    if folder := _local_stack(data):
        check_running(folder)
    return found


def check_running(folder: Path) -> status.StackStatus:
    """Raises NotRunning unless a launcher lives for this data directory."""
    found = status.read(folder)
    if found is None or not found.running():
        raise NotRunning(f"nothing runs in {folder}; `millrace up --data DIR` starts it")
    return found


def _local_stack(data: Path | None) -> Path | None:
    """The data directory that is meant; None where the environment says where the servers are."""
    if data is not None:
        return data
    usual = (DATA_DIR_DEFAULT / status.FILE).exists()
    return DATA_DIR_DEFAULT if usual and not settings().stack_file else None
