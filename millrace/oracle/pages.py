"""What a page of a list may be.

The contract leaves open how long a page is and where its token stands among hidden rows, so a
page is judged: its rows are the next ones that are shown, none left out, and the end is told.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.oracle.refused import refuse_if

PAGE_ROWS = 30
ENDLESS = "(a token, for more follows)"


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of one owner. `rows` are all that stand, `shown` those that this viewer sees."""

    kind: str
    owner_id: int
    rows: Collection[int]
    shown: Callable[[int], bool]
    newest_first: bool = False

    def ranks(self) -> list[int]:
        """Ids that grow along the list."""
        return sorted(-row if self.newest_first else row for row in self.rows)

    def is_shown(self, rank: int) -> bool:
        return self.shown(-rank if self.newest_first else rank)


@dataclass(frozen=True, slots=True)
class _Place:
    """A token stands after `after`, and not after `until`: rows between were hidden then."""

    kind: str
    owner_id: int
    after: int
    until: int


_FIRST = _Place("", 0, -(1 << 63), -(1 << 63))


@dataclass(slots=True)
class Pages:
    """Knows every token that was given out: it stays valid for ever."""

    places: dict[str, _Place] = field(default_factory=dict)

    def refusals(self, kind: str, owner_id: int, token: str) -> dict[str, bool]:
        place = self.places.get(token)
        other = place is not None and (place.kind, place.owner_id) != (kind, owner_id)
        return {
            "INVALID_ARGUMENT PAGE_TOKEN_INVALID": bool(token) and place is None,
            "INVALID_ARGUMENT PAGE_TOKEN_OF_ANOTHER_LIST": other,
        }

    def page(
        self, listed: Listed, request: Any, seen_ids: Sequence[int], token: str
    ) -> tuple[list[int], str]:
        """The ids and the next token that the page must have if it is as long as what was seen
        (`seen_ids`, `token`).
        """
        refuse_if(self.refusals(listed.kind, listed.owner_id, request.page_token))
        place = self.places.get(request.page_token, _FIRST)
        limit = request.page_size or PAGE_ROWS
        length = min(len(seen_ids), limit)
        seen = {-one if listed.newest_first else one for one in seen_ids}
        ranks = [rank for rank in listed.ranks() if rank > place.after]
        # What was hidden where the token stands may lie before it or after it.
        due = [
            rank for rank in ranks if listed.is_shown(rank) and (rank > place.until or rank in seen)
        ]
        shown = due[:length] if token else due[:limit]
        self._learn(listed, place, ranks, shown, token)
        ids = [-rank if listed.newest_first else rank for rank in shown]
        return ids, token or (ENDLESS if len(due) > len(shown) else "")

    def _learn(
        self, listed: Listed, place: _Place, ranks: Iterable[int], shown: list[int], token: str
    ) -> None:
        if not token:
            return
        after = shown[-1] if shown else place.after
        # A page that shows nothing began anywhere up to `until`, and went on over hidden rows.
        until = after if shown else max(after, place.until)
        for rank in (rank for rank in ranks if rank > until):
            if listed.is_shown(rank):
                break
            until = rank
        self.places[token] = dataclasses.replace(
            place, kind=listed.kind, owner_id=listed.owner_id, after=after, until=until
        )
