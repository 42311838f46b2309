"""`millrace version`."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> None:
    """Print the version."""
    try:
        print(installed_version("millrace"))
    except PackageNotFoundError:
        print("not installed")
