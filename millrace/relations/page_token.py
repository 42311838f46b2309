"""Page tokens: opaque, signed, valid for ever.

A token holds the kind of list, its owner and the last id of the page. It is signed with a key
derived from the log's seed, which is never rotated. A token of another list is InvalidRequest.
"""

import base64
import binascii
import hashlib
import hmac
import struct

from millrace.errors import InvalidRequest

_BODY = struct.Struct(">8sqq")
_MAC_BYTES = 12


class PageTokens:
    """Makes and reads the page tokens of one log."""

    def __init__(self, log_seed: bytes) -> None:
        self._key = hmac.digest(log_seed, b"millrace page tokens", "sha256")

    def encode(self, kind: str, owner_id: int, last_id: int) -> str:
        body = _BODY.pack(_kind_bytes(kind), owner_id, last_id)
        token = body + self._mac(body)
        return base64.urlsafe_b64encode(token).rstrip(b"=").decode()

    def decode(self, kind: str, owner_id: int, text: str) -> int | None:
        """The id after which the page begins; None for the first page (an empty token)."""
        if not text:
            return None
        try:
            token = base64.b64decode(
                text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True
            )
        except (binascii.Error, ValueError):
            raise _invalid() from None
        body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
        if len(body) != _BODY.size or not hmac.compare_digest(mac, self._mac(body)):
            raise _invalid()
        found_kind, found_owner, last_id = _BODY.unpack(body)
        if (found_kind, found_owner) != (_kind_bytes(kind), owner_id):
            raise InvalidRequest(
                "page_token belongs to another list", reason="PAGE_TOKEN_OF_ANOTHER_LIST"
            )
        return int(last_id)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]


def _kind_bytes(kind: str) -> bytes:
    return hashlib.blake2s(kind.encode(), digest_size=8).digest()


def _invalid() -> InvalidRequest:
    return InvalidRequest("page_token is not one of ours", reason="PAGE_TOKEN_INVALID")
