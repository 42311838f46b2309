"""What sessions asked and what they were told: the histories that `session_checker` judges.

All that is written and read comes down to keys with values. A key is (kind, owner, member): a like
is ("like", liker, media) with True; a comment ("comment", media, its text) with its id; a caption
("caption", author, media) with the text. What does not exist has the value GONE, as at the start.

Seconds are of one monotonic clock.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

Key = tuple[str, int, Hashable]
Rows = tuple[tuple[Hashable, Hashable], ...]
GONE = "gone"
# Of a creation that was not answered: its id is anybody's guess.
NOT_TOLD = "not told"


class Outcome(StrEnum):
    """UNKNOWN: it may have been done, or be done yet. REFUSED: it was not."""

    DONE = "done"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Write:
    """`value`: what a read shows afterwards. `request`: of a creation, which happens once however
    often it is sent. `for_all`: its answer promises that from then on everybody sees it.
    `tried_again`: an attempt before the one that was answered may be done later. `reason`: of a
    refusal.
    """

    session: int
    key: Key
    value: Hashable
    began_s: float
    ended_s: float
    outcome: Outcome = Outcome.DONE
    request: str = ""
    for_all: bool = False
    tried_again: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """An answered read of one (kind, owner). `rows`: (member, value) as shown, in order.

    `asked`: the members that it was about; None: all there are, so who is not shown is GONE.
    `count`: what the same answer, or one at the same time, says that there are. `drained`: not 0
    when nobody wrote and every view had all; equal for the reads of one such moment.
    """

    session: int
    kind: str
    owner: int
    rows: Rows
    began_s: float
    ended_s: float
    asked: frozenset[Hashable] | None = None
    stale: bool = False
    count: int | None = None
    drained: int = 0


@dataclass(slots=True)
class SessionHistory:
    """Every call of every session. `unanswered`: reads that no store answered, which a fault may
    do to anybody; `refused`: reads that were told something else, which nothing here may be.
    """

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    unanswered: int = 0
    refused: list[str] = field(default_factory=list)
