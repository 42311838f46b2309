"""UsersService: registering, sessions, reading users, one's own profile.

Not yet: LogOut, ChangePassword, ChangeHandle, private accounts, deactivation.
"""

from millrace import policy
from millrace.auth import names, refresh_token, sealing
from millrace.errors import FailedPrecondition, Unauthenticated, Unimplemented
from millrace.log.partitioner import key_of
from millrace.views import follows, hydration, media, users, vault
from millrace.views.users import USERS
from services import presentation
from services.call import Call
from services.parts import Parts
from services.registration import Registration
from services.vault import Vault
from social.log.v1.users_pb2 import ProfileText, ProfileUpdated, UsersEvent
from social.v1 import users_pb2 as pb

_NOBODY = 0


class UsersService:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._vault = Vault(parts)
        self._registration = Registration(parts, self._vault)

    async def register(self, call: Call, request: pb.RegisterRequest) -> pb.RegisterResponse:
        user_id, registered = await self._registration.register(call, request)
        tokens, session = await self._vault.begin_session(call, user_id)
        await call.applied(vault.VIEW, session)
        if registered is not None:
            await call.applied(users.VIEW, registered)
        return pb.RegisterResponse(
            user_id=user_id,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
        )

    async def log_in(self, call: Call, request: pb.LogInRequest) -> pb.LogInResponse:
        user_id, password_hash = await self._credentials(request.handle)
        if not await self._parts.passwords.matches(password_hash, request.password):
            raise Unauthenticated("handle or password is wrong", reason="CREDENTIALS_INVALID")
        call.acts_as(user_id)
        tokens, appended = await self._vault.begin_session(call, user_id)
        await call.applied(vault.VIEW, appended)
        return pb.LogInResponse(
            user_id=user_id,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in_s=tokens.expires_in_s,
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

    async def get_users(self, call: Call, request: pb.GetUsersRequest) -> pb.GetUsersResponse:
        stale = await call.stale(users.VIEW, follows.VIEW, media.VIEW)
        ids = list(dict.fromkeys(request.user_ids)) or await self._ids_of(list(request.handles))
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

    async def _credentials(self, handle: str) -> tuple[int, str | None]:
        """User and password hash by handle; (0, None) for nobody, after the same reads."""
        views = self._parts.views
        key = names.name_key(self._parts.keys, handle)
        holder = (await users.by_name(views, [key])).get(key)
        user_id = holder.user_id if holder else _NOBODY
        registered = await USERS.get_many(views, [(user_id,)])
        password_hash = await self._vault.password_hash(user_id)
        return (user_id, password_hash) if registered else (_NOBODY, None)

    async def _ids_of(self, handles: list[str]) -> list[int]:
        """Users by handle, in the order of the handles, each once."""
        keys = list(dict.fromkeys(names.name_key(self._parts.keys, handle) for handle in handles))
        holders = await users.by_name(self._parts.views, keys)
        return list(dict.fromkeys(holders[key].user_id for key in keys if key in holders))
