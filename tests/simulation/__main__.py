"""The simulator: `python -m tests.simulation --seed 7 --steps 100000`."""

import secrets
import sys
from typing import Annotated

import typer
from rich.console import Console

from tests.simulation.history import Failure
from tests.simulation.run import keep, run, shrunk, story

console = Console(highlight=False, soft_wrap=True)
REPORT_EVERY = 20_000


def main(
    seed: Annotated[int | None, typer.Option(help="default: a new one, printed")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 100_000,
) -> None:
    """Play histories of the core on the in-memory twins; exits 1 at the first that fails."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    console.print(f"simulating: SEED={seed} STEPS={steps}")
    told = 0

    def heard(done: int) -> None:
        nonlocal told
        if done - told >= REPORT_EVERY:
            told = done
            console.print(f"  {done:,} steps")

    ran = run(seed, steps, heard)
    console.print(ran.summary())
    if ran.failure is not None:
        _tell(ran.failure, f"make sim SEED={seed} STEPS={steps}")
        sys.exit(1)
    console.print("everything held")


def _tell(failure: Failure, again: str) -> None:
    console.print(str(failure), markup=False)
    console.print("shrinking …")
    text = story(failure, shrunk(failure), again)
    path = keep(failure, text)
    console.print(text, markup=False)
    console.print(f"kept in {path}")


if __name__ == "__main__":
    typer.run(main)
