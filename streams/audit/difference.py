"""What an audit finds: a row a relation, and each difference in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.log.port import TopicPartition

_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """What is served for one key is not what the log says. `position`: of the second look."""

    check: str
    relation: str
    key: int
    expected: str
    served: str
    position: str

    def __str__(self) -> str:
        where = f"{self.check} {self.relation} of {self.key}"
        return f"{where}: expected {self.expected}, served {self.served} (at {self.position})"


@dataclass(slots=True)
class Finding:
    """One row of the table. `examined` keys, or rows where rows are owed."""

    check: str
    relation: str
    examined: int = 0
    differences: int = 0
    position: str = ""


def at(ends: Mapping[TopicPartition, int], topics: Sequence[str]) -> str:
    """A position in words: each topic with its numbers in the order of the partitions."""
    told = []
    for topic in topics:
        numbers = [str(number) for place, number in sorted(ends.items()) if place[0] == topic]
        told.append(f"{topic} {','.join(numbers)}")
    return " ".join(told)


def few(ids: Sequence[int]) -> str:
    """Some of many ids, and how many there are."""
    shown = ", ".join(map(str, ids[:_SHOWN_MAX]))
    return shown if len(ids) <= _SHOWN_MAX else f"{shown} and {len(ids) - _SHOWN_MAX} more"


def words(wanted: Sequence[int], served: Sequence[int]) -> tuple[str, str]:
    """Two lists that are not equal, as expected and served: what is missing, else what is too
    much, else that the order is another.
    """
    held, expected = set(served), set(wanted)
    if missing := [one for one in wanted if one not in held]:
        return few(missing), f"{len(served)} others of {len(wanted)}"
    if extra := [one for one in served if one not in expected]:
        return f"{len(wanted)} others", few(extra)
    return f"{len(wanted)} in order", f"{len(served)} out of order: {few(served)}"
