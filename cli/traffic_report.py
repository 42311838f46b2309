"""What a traffic has shown: tables on the terminal, JSON in a file, and what a page is made of."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from cli.traffic_tables import checks_table, counts, traffic_table
from cli.vitals import Vital
from millrace.traffic.check import Check
from millrace.traffic.report import Report


@dataclass(slots=True)
class TrafficReport:
    """Filled as the run goes on. `parameters`: what was asked for."""

    parameters: dict[str, Any]
    traffic: Report | None = None
    checks: Sequence[Check] = ()
    vitals: Sequence[Vital] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Also when nothing was to be checked."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "parameters": self.parameters,
            "passed": self.passed,
            "traffic": self.traffic.as_json() if self.traffic else None,
            "checks": [asdict(check) | {"passed": check.passed} for check in self.checks],
            "vitals": [asdict(vital) for vital in self.vitals],
        }

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.as_json(), indent=1))

    def print(self, console: Console) -> None:
        if self.traffic is not None:
            console.print(traffic_table(self.traffic))
            console.print(Text(counts(self.traffic) + "\n"))
        if self.checks:
            console.print(checks_table(self.checks))
