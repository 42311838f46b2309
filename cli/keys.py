"""`millrace keys`: the installation's keys, in files."""

from typing import Annotated

import typer

from cli.settings_of import DataDir, settings_of
from millrace.auth.keys import add_signing_key, ensure_keys


def keys(
    data: DataDir = None,
    rotate: Annotated[
        bool, typer.Option(help="add a signing key, which signs from now on")
    ] = False,
) -> None:
    """Create the keys that are missing; say where they are. Back up master.key."""
    folder = settings_of(data).keys_dir
    found = ensure_keys(folder)
    if rotate:
        print(f"signing key {add_signing_key(folder)} signs from now on")
    print(f"{folder}: master.key and {len(found.signing) + rotate} signing key(s)")
