"""What makes each case of docs/errors.md happen; one file a section of the document."""

from tests.error_cases import accounts, comments, edges, every_rpc, framing, limits, media, users
from tests.error_cases.register import MADE

__all__ = [
    "MADE",
    "accounts",
    "comments",
    "edges",
    "every_rpc",
    "framing",
    "limits",
    "media",
    "users",
]
