"""The data directory of a stack that is not to stay."""

import shutil
from pathlib import Path


def remove(folder: Path) -> None:
    """All of it, also where a link leads out of it."""
    for link in folder.iterdir() if folder.exists() else ():
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
