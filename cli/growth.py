"""Does a process take more and more? The second and the last quarter of a long run are compared.

By their medians, so that one garbage collection or one slow moment decides nothing; the first
quarter is left out, since caches fill in it.
"""

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cli.vitals import Vital

_SHARE = 0.10
_MEMORY_MIB, _DESCRIPTORS = 16.0, 16.0
# Fewer samples in a quarter say nothing.
_SAMPLES_MIN = 2


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of two quarters, and up to what the last is no growth. `judged`: whether it counts.
    `second` is None where there were too few samples.
    """

    process: str
    what: str
    second: float | None
    last: float | None
    allowed: float
    judged: bool

    @property
    def unknown(self) -> bool:
        return self.judged and (self.second is None or self.last is None)

    @property
    def passed(self) -> bool:
        if not self.judged:
            return True
        return self.second is not None and self.last is not None and self.last <= self.allowed


def growths(
    samples: Sequence[Vital], own: Collection[str], servers: Collection[str], *, rate: float
) -> list[Growth]:
    """`own`: processes whose memory and descriptors are judged; of `servers` the descriptors are,
    and the memory is only shown. The lag may differ by what comes in two seconds at `rate`.
    """
    names = [*own, *servers]
    found = [
        _growth(samples, name, "memory, MiB", _memory(name), _MEMORY_MIB, judged=name in own)
        for name in names
    ]
    found += [
        _growth(samples, name, "descriptors", _descriptors(name), _DESCRIPTORS, judged=True)
        for name in names
    ]
    found.append(_growth(samples, "all", "lag, records", _lag, 2 * rate, judged=True))
    return found


def growth_table(found: Sequence[Growth]) -> Table:
    table = Table(
        title="Growth: medians of the second and the last quarter",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in ("", "process", "what", "second", "last", "allowed"):
        table.add_column(column, justify="left" if column in ("", "process", "what") else "right")
    for row in growth_rows(found):
        mark, *cells = row
        table.add_row(Text(mark, style="bold red" if mark == "✗" else "green"), *cells)
    return table


def growth_rows(found: Sequence[Growth]) -> list[tuple[str, ...]]:
    """Verdict, process, what, second, last, allowed."""
    return [
        (
            ("✓" if one.passed else "✗") if one.judged else "",
            one.process,
            one.what,
            *("too few" if value is None else f"{value:,.1f}" for value in (one.second, one.last)),
            f"{one.allowed:,.1f}" if one.judged else "not judged",
        )
        for one in found
    ]


def _growth(
    samples: Sequence[Vital],
    process: str,
    what: str,
    value: Callable[[Vital], float | None],
    more: float,
    *,
    judged: bool,
) -> Growth:
    end_s = max((sample.at_s for sample in samples), default=0.0)
    second = _median(samples, end_s / 4, end_s / 2, value)
    last = _median(samples, end_s * 3 / 4, end_s, value)
    allowed = (second or 0.0) * (1 + _SHARE) + more
    return Growth(process, what, second, last, allowed, judged)


def _median(
    samples: Sequence[Vital], from_s: float, to_s: float, value: Callable[[Vital], float | None]
) -> float | None:
    found = [value(sample) for sample in samples if from_s <= sample.at_s <= to_s]
    known = [one for one in found if one is not None]
    return statistics.median(known) if len(known) >= _SAMPLES_MIN else None


def _memory(name: str) -> Callable[[Vital], float | None]:
    return lambda sample: sample.memory_mib.get(name)


def _descriptors(name: str) -> Callable[[Vital], float | None]:
    return lambda sample: sample.descriptors.get(name)


def _lag(sample: Vital) -> float | None:
    return sample.behind
