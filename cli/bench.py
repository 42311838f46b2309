"""`millrace bench NAME`: measurements against the bare parts, each one module of `cli/benches`."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from cli.benches import figures
from cli.benches.effort import BUILD, Effort
from millrace.errors import InvalidRequest, MillraceError

# name -> the module with `async run(effort, told) -> list[Row]`.
BENCHES: dict[str, str] = {
    "fanout": "cli.benches.fanout",
    "likes": "cli.benches.likes",
    "rpc": "cli.benches.rpc",
    "feed-read": "cli.benches.feed_read",
    "overload": "cli.benches.overload",
    "replay": "cli.benches.replay",
}
ALL = "all"
_DEFAULT = Effort()


def bench(
    name: Annotated[str, typer.Argument(help="one of them, or all")] = ALL,
    rounds: Annotated[
        int | None, typer.Option(help="turns of each side; each has its own default", min=1)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="length of a turn, about; each has its own default")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="follow graph; each has its own")] = None,
    build: Annotated[Path, typer.Option(help="folder for data and figures")] = BUILD,
) -> None:
    """Measure against the bare parts driven in the same run."""
    if name != ALL and name not in BENCHES:
        raise InvalidRequest(f"unknown bench {name!r}; there are {', '.join([*BENCHES, ALL])}")
    if name == ALL:
        # In processes of their own, so that none inherits another's memory.
        for one in BENCHES:
            options = ["--build", str(build)]
            options += ["--seconds", str(seconds)] if seconds else []
            options += ["--rounds", str(rounds)] if rounds else []
            options += ["--graph", str(graph)] if graph else []
            argv = (sys.executable, "-m", "cli.main", "bench", one, *options)
            if subprocess.run(argv, check=False).returncode:
                raise MillraceError(f"bench {one} failed")
        return
    console = Console()
    module = importlib.import_module(BENCHES[name])
    own_rounds: int = getattr(module, "ROUNDS", _DEFAULT.rounds)
    own_seconds: float = getattr(module, "SECONDS", _DEFAULT.seconds)
    effort = Effort(rounds or own_rounds, seconds or own_seconds, graph, build)
    rows = uvloop.run(module.run(effort, lambda text: console.print(f"  {text}", highlight=False)))
    figures.write(rows, build / f"{name}.json")
    figures.print_rows(console, f"millrace bench {name}", rows)
    console.print(f"figures: {build / f'{name}.json'}")
