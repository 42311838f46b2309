"""The calls of a run, counted by RPC, time and outcome, with their latencies, in bounded memory.

A call belongs to the window in which it was to start. Tallies of several processes add up.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from millrace.traffic.latencies import Latencies

# A call that could not be made: what it needed did not exist yet, because something was slow.
SKIPPED = "SKIPPED"
# One that was due while too many were under way: the generator could not begin it.
DROPPED = "DROPPED"
OK = "OK"
_NOT_MADE = (SKIPPED, DROPPED)
WINDOWS_MAX = 120
_WINDOW_S_MIN = 1.0


def window_s_of(seconds: float) -> float:
    """How long the windows of a run of this length are."""
    return max(_WINDOW_S_MIN, seconds / WINDOWS_MAX)


@dataclass(slots=True)
class Cell:
    """`outcomes`: OK, SKIPPED, DROPPED or an error's reason. `refused`: those of the errors that
    the server gave to who called too much. `latencies`: of what succeeded, from the intended start.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def made(self) -> int:
        return self.outcomes.total() - sum(self.outcomes[one] for one in _NOT_MADE)

    @property
    def ok(self) -> int:
        return self.outcomes[OK]

    @property
    def failed(self) -> int:
        """Refused ones included."""
        return self.made - self.ok

    def add_all(self, other: "Cell") -> None:
        self.outcomes += other.outcomes
        self.refused += other.refused
        self.latencies.add_all(other.latencies)


class Tally:
    """`late`: how much later than intended calls began, which is the generator's own doing."""

    def __init__(self, window_s: float = _WINDOW_S_MIN) -> None:
        self.window_s = window_s
        self.late = Latencies()
        self._cells: dict[tuple[str, int], Cell] = {}
        self._totals: Counter[str] = Counter()

    @property
    def windows(self) -> int:
        """How many there are, the empty ones before the last included."""
        return max((window for _, window in self._cells), default=-1) + 1

    @property
    def rpcs(self) -> list[str]:
        """The most frequent first."""
        calls: Counter[str] = Counter()
        for (rpc, _), cell in self._cells.items():
            calls[rpc] += cell.made
        return [rpc for rpc, _ in calls.most_common()]

    @property
    def outcomes(self) -> Counter[str]:
        return self._totals

    @property
    def ended(self) -> int:
        """Calls that were made and have ended."""
        return self._totals.total() - sum(self._totals[one] for one in _NOT_MADE)

    def add(
        self, rpc: str, intended_s: float, ended_s: float, outcome: str, *, refused: bool = False
    ) -> None:
        cell = self._cell(rpc, int(intended_s / self.window_s))
        cell.outcomes[outcome] += 1
        cell.refused += refused
        self._totals[outcome] += 1
        if outcome == OK:
            cell.latencies.add(ended_s - intended_s)

    def add_all(self, other: "Tally") -> None:
        """Both with windows of one length."""
        for (rpc, window), cell in other._cells.items():
            self._cell(rpc, window).add_all(cell)
        self._totals += other._totals
        self.late.add_all(other.late)

    def sum(self, rpc: str | None = None, window: int | None = None) -> Cell:
        """Of one RPC or of all, of one window or of all."""
        return _summed(
            cell
            for (of_rpc, of_window), cell in self._cells.items()
            if rpc in (None, of_rpc) and window in (None, of_window)
        )

    def part(self, window: int) -> "Tally":
        """Of one window alone."""
        part = Tally(self.window_s)
        for rpc in {rpc for rpc, _ in self._cells}:
            if cell := self._cells.get((rpc, window)):
                part._cell(rpc, window).add_all(cell)
        return part

    def as_json(self) -> dict[str, Any]:
        cells = [
            [rpc, window, cell.outcomes, cell.refused, cell.latencies.encode() if cell.ok else ""]
            for (rpc, window), cell in self._cells.items()
        ]
        return {"window_s": self.window_s, "late": self.late.encode(), "cells": cells}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Tally":
        tally = cls(found["window_s"])
        tally.late.add_encoded(found["late"])
        for rpc, window, outcomes, refused, latencies in found["cells"]:
            cell = tally._cell(rpc, window)
            cell.outcomes, cell.refused = Counter(outcomes), refused
            if latencies:
                cell.latencies.add_encoded(latencies)
            tally._totals += cell.outcomes
        return tally

    def _cell(self, rpc: str, window: int) -> Cell:
        found = self._cells.get((rpc, window))
        if found is None:
            found = self._cells[rpc, window] = Cell()
        return found


def _summed(cells: Iterable[Cell]) -> Cell:
    total = Cell()
    for cell in cells:
        total.add_all(cell)
    return total
