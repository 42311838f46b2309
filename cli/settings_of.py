"""Which installation a command means: the environment's, or the stack of a data directory."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.local import status
from deploy.local.stack import DATA_DIR_DEFAULT
from millrace.errors import FailedPrecondition
from millrace.settings import Settings, settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="data directory of a local stack", show_default=".millrace"),
]


def settings_of(data: Path | None) -> Settings:
    """The settings of the environment; with a data directory, or where the environment names no
    stack and the usual directory has one, those of its stack.
    """
    if data is not None:
        if not (data / status.FILE).exists():
            raise FailedPrecondition(f"no stack was ever started in {data}")
        return Settings.model_validate({"stack_file": str(data / status.FILE)})
    given = settings()
    usual = DATA_DIR_DEFAULT / status.FILE
    if not given.stack_file and usual.exists():
        return Settings.model_validate({"stack_file": str(usual)})
    return given
