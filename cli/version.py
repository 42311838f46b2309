"""`millrace version`."""

import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from cli.processes import ROOT


def version() -> None:
    """Print the version."""
    try:
        print(installed_version("millrace"))
    except PackageNotFoundError:
        # A clone that is on the path without being installed.
        print(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
