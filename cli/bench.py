"""`millrace bench NAME`: measurements against the bare parts, each one module."""

import importlib
from typing import Annotated

import typer

from millrace.errors import InvalidRequest

# name -> the module with `run() -> None`; each writes build/bench/NAME.json.
BENCHES: dict[str, str] = {
    "fanout": "tests.load.bench_fanout",
    "likes": "tests.load.bench_likes",
    "rpc": "tests.load.bench_rpc",
    "feed-read": "tests.load.bench_feed_read",
}
ALL = "all"


def bench(name: Annotated[str, typer.Argument(help="one of them, or all")] = ALL) -> None:
    """Measure against the bare parts driven in the same run."""
    if name != ALL and name not in BENCHES:
        raise InvalidRequest(f"unknown bench {name!r}; there are {', '.join([*BENCHES, ALL])}")
    for one in BENCHES if name == ALL else (name,):
        try:
            module = importlib.import_module(BENCHES[one])
        except ModuleNotFoundError as missing:
            raise InvalidRequest(f"bench {one!r} is not here yet") from missing
        module.run()
