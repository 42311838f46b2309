"""How much a bench does. The defaults end within four minutes on two cores."""

from dataclasses import dataclass
from pathlib import Path

from cli.processes import ROOT

BUILD = ROOT / "build" / "bench"
GRAPHS = ROOT / "tests" / "data"


@dataclass(frozen=True, slots=True)
class Effort:
    """`seconds`: about how long one side has its turn in a round. `graph`: who follows whom,
    where it is to be another than the bench's usual one. `build`: for data and figures.
    """

    rounds: int = 5
    seconds: float = 3.0
    graph: Path | None = None
    build: Path = BUILD
