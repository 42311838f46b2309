"""UsersService: registering, sessions, reading users, one's own profile.

What ends sessions is in `services/accounts.py`, other handles in `services/renaming.py`.
Not yet: private accounts.
"""

from dataclasses import dataclass

from millrace import policy
from millrace.auth import names, refresh_token, sealing
from millrace.errors import FailedPrecondition, Unauthenticated, Unimplemented
from millrace.log.partitioner import key_of
from millrace.views import follows, hydration, media, users, vault
from services import presentation
from services.accounts import Accounts
from services.call import Call
from services.parts import Parts
from services.registration import Registration
from services.renaming import Renaming
from services.vault import Vault
from social.log.v1.users_pb2 import ProfileText, ProfileUpdated, UsersEvent
from social.v1 import users_pb2 as pb

_NOBODY = 0


@dataclass(frozen=True, slots=True)
class _Login:
    """Whom a handle names, and what his session begins with."""

    user_id: int
    password_hash: str | None
    sessions_generation: int
    deactivated: bool


class UsersService:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._vault = Vault(parts)
        self._registration = Registration(parts, self._vault)
        self._accounts = Accounts(parts, self._vault)
        self._renaming = Renaming(parts)

    async def register(self, call: Call, request: pb.RegisterRequest) -> pb.RegisterResponse:
        registered = await self._registration.register(call, request)
        tokens, session = await self._vault.begin_session(
            call,
            registered.user_id,
            registered.sessions_generation,
            restricted=registered.deactivated,
        )
        await call.applied(vault.VIEW, session)
        if registered.appended is not None:
            await call.applied(users.VIEW, registered.appended)
        return pb.RegisterResponse(
            user_id=registered.user_id,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
        )

    async def log_in(self, call: Call, request: pb.LogInRequest) -> pb.LogInResponse:
        # Who has just changed his password, and was told `pending`, sends that position.
        await call.stale(vault.VIEW, users.VIEW)
        found = await self._login(request.handle)
        if not await self._parts.passwords.matches(found.password_hash, request.password):
            raise Unauthenticated("handle or password is wrong", reason="CREDENTIALS_INVALID")
        call.acts_as(found.user_id)
        tokens, appended = await self._vault.begin_session(
            call, found.user_id, found.sessions_generation, restricted=found.deactivated
        )
        await call.applied(vault.VIEW, appended)
        return pb.LogInResponse(
            user_id=found.user_id,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
            deactivated=found.deactivated,
        )

    async def refresh_token(
        self, call: Call, request: pb.RefreshTokenRequest
    ) -> pb.RefreshTokenResponse:
        shown = refresh_token.parse(request.refresh_token)
        call.acts_as(shown.user_id)
        tokens = await self._vault.rotate_session(call, shown)
        return pb.RefreshTokenResponse(
            user_id=shown.user_id,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
        )

    async def log_out(self, call: Call, request: pb.LogOutRequest) -> pb.LogOutResponse:
        return await self._accounts.log_out(call, request)

    async def change_password(
        self, call: Call, request: pb.ChangePasswordRequest
    ) -> pb.ChangePasswordResponse:
        return await self._accounts.change_password(call, request)

    async def deactivate_user(
        self, call: Call, request: pb.DeactivateUserRequest
    ) -> pb.DeactivateUserResponse:
        return await self._accounts.deactivate_user(call, request)

    async def reactivate_user(
        self, call: Call, request: pb.ReactivateUserRequest
    ) -> pb.ReactivateUserResponse:
        return await self._accounts.reactivate_user(call, request)

    async def change_handle(
        self, call: Call, request: pb.ChangeHandleRequest
    ) -> pb.ChangeHandleResponse:
        await self._renaming.rename(call, request)
        return pb.ChangeHandleResponse()

    async def get_users(self, call: Call, request: pb.GetUsersRequest) -> pb.GetUsersResponse:
        stale = await call.stale(users.VIEW, follows.VIEW, media.VIEW)
        ids = list(dict.fromkeys(request.user_ids))
        if request.handles:
            ids = await self._ids_of(list(request.handles))
        items = await hydration.user_items(self._parts.views, ids)
        return pb.GetUsersResponse(
            users=[presentation.user(items[user_id]) for user_id in ids if user_id in items],
            stale=stale,
        )

    async def update_profile(
        self, call: Call, request: pb.UpdateProfileRequest
    ) -> pb.UpdateProfileResponse:
        if request.private:
            raise Unimplemented("private accounts come with a later version")
        user_id = call.user_id
        await call.stale(users.VIEW)
        policy.check_user_seen(user_id in await users.by_id(self._parts.views, [user_id]))
        data_key = await self._parts.data_keys.of(user_id)
        if data_key is None:
            raise FailedPrecondition("this account has been erased", reason="USER_ERASED")
        text = ProfileText(display_name=request.display_name, bio=request.bio)
        updated = ProfileUpdated(
            user_id=user_id,
            at_ms=self._parts.clock.now_ms(),
            sealed=sealing.seal_text(data_key, user_id, text),
        )
        await call.append("users", key_of(user_id), UsersEvent(profile_updated=updated))
        return pb.UpdateProfileResponse()

    async def _login(self, handle: str) -> _Login:
        """Nobody is user 0 without a password, after the same reads.

        The generation and the password come from one read, the row after it. Who changes the
        password, or goes away, has written that before he ends the sessions. So a session that
        begins with an old password, or for a user who seemed active, began under an old
        generation and is dead.
        """
        views = self._parts.views
        key = names.name_key(self._parts.keys, handle)
        holder = (await users.by_name(views, [key])).get(key)
        user_id = holder.user_id if holder else _NOBODY
        held = await self._vault.credentials(user_id)
        row = (await users.by_id_deactivated_too(views, [user_id])).get(user_id)
        if row is None or not users.has_name(row, key):
            return _Login(_NOBODY, None, 0, deactivated=False)
        return _Login(user_id, held.password_hash, held.sessions_generation, row.deactivated)

    async def _ids_of(self, handles: list[str]) -> list[int]:
        """Users by handle, in the order of the handles, each once."""
        keys = list(dict.fromkeys(names.name_key(self._parts.keys, handle) for handle in handles))
        rows = await users.by_handle(self._parts.views, keys)
        return [rows[key].user_id for key in keys if key in rows]
