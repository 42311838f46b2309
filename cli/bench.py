"""`millrace bench NAME`: measurements against the bare parts, each one module of `cli/benches`."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from cli.benches import figures
from cli.benches.effort import BUILD, Effort
from millrace.errors import InvalidRequest, MillraceError

# name -> the module with `async run(effort, told) -> list[Row]`, and `PARTS` of the same kind where
# they can be asked for alone.
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
Run = Callable[[Effort, Callable[[str], None]], Coroutine[object, object, list[figures.Row]]]


def bench(
    name: Annotated[str, typer.Argument(help="one of them, or all")] = ALL,
    rounds: Annotated[
        int | None, typer.Option(help="turns of each side; each has its own default", min=1)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="length of a turn, about; each has its own default")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="follow graph; each has its own")] = None,
    part: Annotated[
        str | None, typer.Option(help="this one alone, of a bench that has parts")
    ] = None,
    build: Annotated[Path, typer.Option(help="folder for data and figures")] = BUILD,
) -> None:
    """Measure against the bare parts driven in the same run."""
    if name != ALL and name not in BENCHES:
        raise InvalidRequest(f"unknown bench {name!r}; there are {', '.join([*BENCHES, ALL])}")
    if name == ALL and part:
        raise InvalidRequest("--part is of one bench: `millrace bench replay --part feed`")
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
    run = _part_of(name, module, part) if part else module.run
    rows = uvloop.run(run(effort, lambda text: console.print(f"  {text}", highlight=False)))
    file = build / (f"{name}-{part}.json" if part else f"{name}.json")
    figures.write(rows, file)
    figures.print_rows(console, f"millrace bench {name}", rows)
    console.print(f"figures: {file}")


def _part_of(name: str, module: ModuleType, part: str) -> Run:
    parts: Mapping[str, Run] = getattr(module, "PARTS", {})
    if part not in parts:
        there = f"it has {', '.join(parts)}" if parts else "it has none"
        raise InvalidRequest(f"bench {name} has no part {part!r}; {there}")
    return parts[part]
