"""What came of a run: its calls in a tally, and every write that was acknowledged.

What was acknowledged is kept one by one, about 300 bytes a write, since each is looked for later.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from millrace.traffic.tally import Tally


class Upload(NamedTuple):
    """An acknowledged upload: what the client knows about it."""

    user_id: int
    media_id: int
    request_id: str
    sha256: bytes
    caption: str
    size_bytes: int = 0


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
class Doubt:
    """What a write whose outcome is unknown may have changed. `edges`: (kind, user, target)."""

    edges: set[tuple[str, int, int]] = field(default_factory=set)
    media: set[int] = field(default_factory=set)
    users: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.edges) + len(self.media) + len(self.users)


@dataclass(slots=True)
class Acknowledged:
    """What the log must hold. `registered`: handle by user; `profiles`: (user, bio) of updates;
    `edges` counts acknowledgements of equal writes; `standing`: what the last one on each edge
    (kind, user, target) set.
    """

    uploads: list[Upload] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    registered: dict[int, str] = field(default_factory=dict)
    profiles: list[tuple[int, str]] = field(default_factory=list)
    edges: Counter[Edge] = field(default_factory=Counter)
    standing: dict[tuple[str, int, int], bool] = field(default_factory=dict)
    doubt: Doubt = field(default_factory=Doubt)

    def wrote(self, edge: Edge) -> None:
        self.edges[edge] += 1
        self.standing[edge.kind, edge.user_id, edge.target_id] = edge.live

    @property
    def writes(self) -> int:
        edges = sum(self.edges.values())
        created = len(self.uploads) + len(self.remarks) + len(self.registered)
        return created + len(self.profiles) + edges

    def add_all(self, other: "Acknowledged") -> None:
        """Of a later run, or of other people in the same one."""
        self.uploads += other.uploads
        self.remarks += other.remarks
        self.registered |= other.registered
        self.profiles += other.profiles
        self.edges += other.edges
        self.standing |= other.standing
        self.doubt.edges |= other.doubt.edges
        self.doubt.media |= other.doubt.media
        self.doubt.users |= other.doubt.users

    def as_json(self) -> dict[str, Any]:
        return {
            "uploads": [one._asdict() | {"sha256": one.sha256.hex()} for one in self.uploads],
            "remarks": self.remarks,
            "registered": list(self.registered.items()),
            "profiles": self.profiles,
            "edges": [[*edge, count] for edge, count in self.edges.items()],
            "standing": [[*edge, live] for edge, live in self.standing.items()],
            "doubt": [list(self.doubt.edges), list(self.doubt.media), list(self.doubt.users)],
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Acknowledged":
        edges, media, users = found["doubt"]
        return cls(
            uploads=[
                Upload(**one | {"sha256": bytes.fromhex(one["sha256"])}) for one in found["uploads"]
            ],
            remarks=[Remark(*one) for one in found["remarks"]],
            registered=dict(found["registered"]),
            profiles=[(user, bio) for user, bio in found["profiles"]],
            edges=Counter({Edge(*edge): count for *edge, count in found["edges"]}),
            standing={(kind, user, target): live for kind, user, target, live in found["standing"]},
            doubt=Doubt({(kind, user, to) for kind, user, to in edges}, set(media), set(users)),
        )


@dataclass(slots=True)
class Record:
    """A run. `outstanding_max`: of calls at once; of several processes the sum of theirs."""

    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    acknowledged: Acknowledged = field(default_factory=Acknowledged)
    retries: int = 0
    outstanding_max: int = 0

    def add_all(self, other: "Record") -> None:
        """What another process did at the same time."""
        self.seconds = max(self.seconds, other.seconds)
        self.tally.add_all(other.tally)
        self.acknowledged.add_all(other.acknowledged)
        self.retries += other.retries
        self.outstanding_max += other.outstanding_max

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "tally": self.tally.as_json(),
            "acknowledged": self.acknowledged.as_json(),
            "retries": self.retries,
            "outstanding_max": self.outstanding_max,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Record":
        return cls(
            found["seconds"],
            Tally.from_json(found["tally"]),
            Acknowledged.from_json(found["acknowledged"]),
            found["retries"],
            found["outstanding_max"],
        )
