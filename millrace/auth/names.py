"""Handles: two that differ only in how they are written are one name.

The log and the views know a name by its key, an HMAC of the normalised name, so that nobody
reads names from keys. Not: which characters a handle may have; the contract's rules say so.
"""

import hmac
import unicodedata

from millrace.auth.keys import Keys


def normalise(handle: str) -> str:
    """Idempotent: NFKC and case folding, again NFKC since folding may undo it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", handle).casefold())


def name_key(keys: Keys, handle: str) -> bytes:
    """32 bytes."""
    return hmac.digest(keys.name_mac, normalise(handle).encode(), "sha256")
