"""One page of a list: how many, after what, and the token of the next."""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.relations.page_token import PageTokens
from services.call import Call


@dataclass(frozen=True, slots=True)
class Page:
    """`after` is the id after which the page begins, None for the first page."""

    limit: int
    after: int | None
    _kind: str
    _owner_id: int
    _tokens: PageTokens

    def next_token(self, found: Sequence[object], shown_ids: Sequence[int]) -> str:
        """Empty at the end. `found` was read with one more than `limit`."""
        return self.token_after(shown_ids[-1] if len(found) > len(shown_ids) else None)

    def token_after(self, last_id: int | None) -> str:
        return "" if last_id is None else self._tokens.encode(self._kind, self._owner_id, last_id)


def page_of(call: Call, kind: str, owner_id: int, page_size: int, page_token: str) -> Page:
    """Raises InvalidRequest for a token that is not of this kind of list of this owner."""
    parts = call.parts
    after = parts.page_tokens.decode(kind, owner_id, page_token)
    limit = page_size or parts.settings.page_size_default
    return Page(min(limit, parts.settings.page_size_max), after, kind, owner_id, parts.page_tokens)
