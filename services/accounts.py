"""Ending sessions, changing the password, going away and coming back.

All of a user's sessions end by one record in his partition of the vault. Its number is the
generation that a session must have begun under, so it rises whoever writes it. What makes old
sessions useless is therefore written first, and a session that begins reads its generation before
anything that it relies on:

    ChangePassword   hash, then sessions      LogIn: generation and hash in one read
    DeactivateUser   users, until the view    LogIn: generation, then the user's row
                     has it, then sessions

A log-in that met the old state read the old generation, and its session is dead.
"""

from millrace.errors import PermissionDenied, Unauthenticated
from millrace.log.partitioner import key_of
from millrace.views import users, vault
from services.call import Call
from services.parts import Parts
from services.vault import Vault
from social.log.v1.users_pb2 import UserDeactivated, UserReactivated, UsersEvent
from social.v1 import users_pb2 as pb


class Accounts:
    def __init__(self, parts: Parts, vault: Vault) -> None:
        self._parts = parts
        self._vault = vault

    async def log_out(self, call: Call, request: pb.LogOutRequest) -> pb.LogOutResponse:
        """Called with tokens of ended sessions, too: what was asked for holds already, and the
        answer to the first try may have been lost. Such a token ends nothing more.
        """
        caller = call.caller
        state = await self._vault.session_state(caller.user_id, caller.family)
        if state is None or not state.stands(caller.sessions_generation):
            all_ended = state is not None and state.generation > caller.sessions_generation
            if request.all_sessions and not all_ended:
                raise Unauthenticated(
                    "this session has ended and cannot end the others: log in",
                    reason="SESSION_ENDED",
                )
            return pb.LogOutResponse()
        if request.all_sessions:
            ended = await self._vault.end_all_sessions(call, caller.user_id)
        else:
            ended = await self._vault.end_session(call, caller.user_id, caller.family)
        return pb.LogOutResponse(pending=not await call.hidden_everywhere(vault.VIEW, ended))

    async def change_password(
        self, call: Call, request: pb.ChangePasswordRequest
    ) -> pb.ChangePasswordResponse:
        user_id, passwords = call.user_id, self._parts.passwords
        held = (await self._vault.credentials(user_id)).password_hash
        if await passwords.matches(held, request.old_password):
            await self._vault.set_password(
                call, user_id, await passwords.hash(request.new_password)
            )
        # A first try may have died between its two writes. Whoever knows the password that holds
        # could send it as the old one as well, so this opens nothing to anybody.
        elif not await passwords.matches(held, request.new_password):
            raise PermissionDenied("the old password is wrong", reason="OLD_PASSWORD_WRONG")
        ended = await self._vault.end_all_sessions(call, user_id)
        # After the generation was taken: a deactivation that was not applied by now ends it.
        gone = bool(await users.deactivated_among(self._parts.views, [user_id]))
        tokens, session = await self._vault.begin_session(
            call, user_id, ended.number, restricted=gone
        )
        return pb.ChangePasswordResponse(
            pending=not await call.hidden_everywhere(vault.VIEW, ended, session),
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
        )

    async def deactivate_user(
        self, call: Call, _request: pb.DeactivateUserRequest
    ) -> pb.DeactivateUserResponse:
        user_id = call.user_id
        event = UserDeactivated(user_id=user_id, at_ms=self._parts.clock.now_ms())
        hidden = await call.append("users", key_of(user_id), UsersEvent(deactivated=event))
        # Not `pending`: were the sessions ended before the view knows, a log-in in between would
        # take the new generation for a user who seems active.
        await call.applied(users.VIEW, hidden)
        ended = await self._vault.end_all_sessions(call, user_id)
        pending = not await call.hidden_everywhere(vault.VIEW, ended)
        return pb.DeactivateUserResponse(pending=pending)

    async def reactivate_user(
        self, call: Call, _request: pb.ReactivateUserRequest
    ) -> pb.ReactivateUserResponse:
        user_id = call.user_id
        behind = await call.stale(users.VIEW)
        if behind or await users.deactivated_among(self._parts.views, [user_id]):
            event = UserReactivated(user_id=user_id, at_ms=self._parts.clock.now_ms())
            shown = await call.append("users", key_of(user_id), UsersEvent(reactivated=event))
            await call.applied(users.VIEW, shown)
        return pb.ReactivateUserResponse()
