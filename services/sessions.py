"""Who calls: the access token of the metadata, and whether its session still stands.

A session is a refresh-token family in the vault. It stands while its row is there and nobody
has revoked it; that is read on every call, for many calls at once.
"""

from collections.abc import Mapping, Sequence

from millrace.auth.access_token import Caller
from millrace.errors import Unauthenticated
from millrace.observe import metrics
from millrace.relations.entity import READ_KEYS_MAX
from millrace.views import vault
from services.batching import Batched
from services.parts import Parts
from services.vault import wait_for_vault
from social.log.v1.vault_pb2 import VAULT_KIND_FAMILY, VAULT_KIND_REVOKED

_SCHEME = "bearer "
_Session = tuple[int, bytes]


class Sessions:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # Two keys a session: its family, and the mark that it is revoked.
        self._standing: Batched[_Session, bool] = Batched(self._read, keys_max=READ_KEYS_MAX // 2)

    async def caller(self, authorization: str) -> Caller:
        """Raises Unauthenticated, and StoreUnavailable while it cannot be known."""
        if not authorization:
            raise Unauthenticated(
                "send the metadata `authorization: Bearer <access token>`", reason="TOKEN_MISSING"
            )
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("authorization is not a bearer token", reason="TOKEN_INVALID")
        caller = self._parts.tokens.verify(authorization[len(_SCHEME) :].strip())
        session = (caller.user_id, caller.family)
        standing = await self._standing.get(session)
        if standing is None:
            # The family was in the log before its token was given out: the view may be behind.
            await wait_for_vault(self._parts, caller.user_id)
            standing = await self._standing.get(session)
        if not standing:
            raise Unauthenticated("the session has ended: log in", reason="SESSION_ENDED")
        return caller

    async def _read(self, sessions: Sequence[_Session]) -> Mapping[_Session, bool]:
        """True: stands. False: revoked. Left out: the view knows no such family."""
        metrics.SESSION_READS.observe(len(sessions))
        found = await vault.boxes(
            self._parts.views,
            [
                (user_id, kind, family)
                for user_id, family in sessions
                for kind in (VAULT_KIND_FAMILY, VAULT_KIND_REVOKED)
            ],
        )
        return {
            (user_id, family): (user_id, VAULT_KIND_REVOKED, family) not in found
            for user_id, family in sessions
            if (user_id, VAULT_KIND_FAMILY, family) in found
        }
