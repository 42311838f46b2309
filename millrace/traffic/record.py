"""What came of a run: every call with its times, and every write that was acknowledged."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

# A call that could not be made: what it needed did not exist yet, because something was slow.
SKIPPED = "SKIPPED"
OK = "OK"


class Sample(NamedTuple):
    """One call. Seconds since the run's start; `outcome`: OK, SKIPPED or an error's reason."""

    rpc: str
    intended_s: float
    ended_s: float
    outcome: str


class Upload(NamedTuple):
    """An acknowledged upload: what the client knows about it."""

    user_id: int
    media_id: int
    request_id: str
    sha256: bytes
    caption: str


class Remark(NamedTuple):
    """An acknowledged comment."""

    user_id: int
    comment_id: int
    media_id: int
    request_id: str
    text: str


class Edge(NamedTuple):
    """A write on an edge: `live` begins it, else it ends. `kind`: follows or likes."""

    kind: str
    user_id: int
    target_id: int
    live: bool


@dataclass(slots=True)
class Acknowledged:
    """What the log must hold. `registered`: handle by user; `profiles`: (user, bio) of updates;
    `edges` counts acknowledgements of equal writes.
    """

    uploads: list[Upload] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    registered: dict[int, str] = field(default_factory=dict)
    profiles: list[tuple[int, str]] = field(default_factory=list)
    edges: Counter[Edge] = field(default_factory=Counter)

    @property
    def writes(self) -> int:
        edges = sum(self.edges.values())
        created = len(self.uploads) + len(self.remarks) + len(self.registered)
        return created + len(self.profiles) + edges


@dataclass(slots=True)
class Record:
    """A run: its samples by time of their end."""

    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    acknowledged: Acknowledged = field(default_factory=Acknowledged)
    retries: int = 0
    outstanding_max: int = 0
