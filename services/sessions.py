"""Who calls: the access token of the metadata, and whether its session still stands.

A session is a refresh-token family in the vault. It stands while its row is there, nobody has
revoked it, and its user has not ended all that began before; that is read on every call, for
many calls at once. What a restricted token's user is now is read for those tokens alone.
"""

from collections.abc import Mapping, Sequence

from millrace import policy
from millrace.auth.access_token import Caller
from millrace.errors import Unauthenticated
from millrace.observe import metrics
from millrace.relations.entity import READ_KEYS_MAX
from millrace.views import users, vault
from millrace.views.vault import Session, SessionState
from services.batching import Batched
from services.parts import Parts
from services.vault import wait_for_vault

_SCHEME = "bearer "


class Sessions:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._states: Batched[Session, SessionState] = Batched(
            self._read,
            keys_max=READ_KEYS_MAX // vault.SESSION_KEYS,
            pause_s=parts.settings.read_pause_ms / 1000,
        )

    async def caller(
        self, authorization: str, *, ended_too: bool = False, deactivated_too: bool = False
    ) -> Caller:
        """`ended_too`: without a look at the session, `deactivated_too`: nor at the user.

        Raises Unauthenticated, FailedPrecondition (USER_DEACTIVATED), and StoreUnavailable while
        it cannot be known.
        """
        if not authorization:
            raise Unauthenticated(
                "send the metadata `authorization: Bearer <access token>`", reason="TOKEN_MISSING"
            )
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("authorization is not a bearer token", reason="TOKEN_INVALID")
        caller = self._parts.tokens.verify(authorization[len(_SCHEME) :].strip())
        if not ended_too:
            await self.check(caller)
        if caller.restricted and not deactivated_too:
            policy.check_active(
                caller.user_id
                not in await users.deactivated_among(self._parts.views, [caller.user_id])
            )
        return caller

    async def check(self, caller: Caller) -> None:
        """Streams ask again while they run. Raises Unauthenticated, and StoreUnavailable."""
        if not await self._stands(caller):
            raise Unauthenticated("the session has ended: log in", reason="SESSION_ENDED")

    async def _stands(self, caller: Caller) -> bool:
        session = (caller.user_id, caller.family)
        state = await self._states.get(session)
        if state is None:
            # The family was in the log before its token was given out: the view may be behind.
            await wait_for_vault(self._parts, caller.user_id)
            state = await self._states.get(session)
        return state is not None and state.stands(caller.sessions_generation)

    async def _read(self, sessions: Sequence[Session]) -> Mapping[Session, SessionState]:
        metrics.SESSION_READS.observe(len(sessions))
        return await vault.session_states(self._parts.views, sessions)
