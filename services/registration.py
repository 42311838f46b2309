"""Registering: a name is claimed in one partition of the log, and the view says who has it.

    1  vault: data key and password hash of a new user id
    2  names: NameClaimed, which carries the text sealed            the view decides
    3  users: UserRegistered, which cites the claim's number        the user is there

Killed after 1, an unused user id has secrets that nobody will read. Killed after 2, a retry
goes on with 3, and so does the completing task of `streams/registrations.py`. A claim that
lost takes its user's secrets away again. The first UserRegistered of a user counts, so it does
no harm to write it twice.
"""

import hmac
import uuid
from dataclasses import dataclass

from millrace.auth import names, sealing
from millrace.errors import AlreadyExists, OutcomeUnknown, StoreUnavailable
from millrace.log.partitioner import key_of
from millrace.log.port import Appended
from millrace.views import users
from millrace.views.registration import Claim, name_claimed, user_registered
from millrace.views.users import NameRow, UserRow
from services.call import Call
from services.parts import Parts
from services.vault import Vault
from social.log.v1.users_pb2 import RegistrationText
from social.v1 import users_pb2 as pb


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request as the log knows it. `body_mac` tells it from another under the same id."""

    name_key: bytes
    request_id: bytes
    body_mac: bytes
    password: str
    text: RegistrationText


@dataclass(frozen=True, slots=True)
class Registered:
    """`sessions_generation` and `deactivated`: for the session that begins. `appended`: what view
    users has yet to apply, if anything.
    """

    user_id: int
    sessions_generation: int
    deactivated: bool
    appended: Appended | None


class Registration:
    def __init__(self, parts: Parts, vault: Vault) -> None:
        self._parts = parts
        self._vault = vault

    async def register(self, call: Call, request: pb.RegisterRequest) -> Registered:
        """The new user, or that of an earlier try of the same request.

        Raises AlreadyExists (HANDLE_TAKEN, REQUEST_ID_REUSED) and OutcomeUnknown.
        """
        wanted = self._wanted(request)
        holder = await self._holder(wanted)
        data_key, generation = None, 0
        if holder is None:
            # First, since it may be refused, and ids are dense: a refusal must not use one up.
            password_hash = await self._parts.passwords.hash(wanted.password)
            user_id = await self._parts.user_ids.next_id()
            call.acts_as(user_id)
            data_key = sealing.new_data_key()
            await self._claim(call, wanted, data_key, password_hash)
            holder = await self._holder(wanted)
            if holder is None:
                raise OutcomeUnknown("the view went back behind a claim that it had applied")
            if holder.user_id != user_id:
                await self._vault.forget_identity(call, user_id)
                data_key = None
        _check_is_mine(holder, wanted)
        if data_key is None:
            generation = await self._check_password(holder, wanted)
        call.acts_as(holder.user_id)
        row = await self._row(holder.user_id)
        appended = None if row else await self._complete(call, holder, wanted, data_key)
        deactivated = row is not None and row.deactivated
        return Registered(holder.user_id, generation, deactivated, appended)

    def _wanted(self, request: pb.RegisterRequest) -> _Wanted:
        keys = self._parts.keys
        body = request.SerializeToString(deterministic=True)
        return _Wanted(
            name_key=names.name_key(keys, request.handle),
            request_id=uuid.UUID(request.request_id).bytes,
            body_mac=hmac.digest(keys.body_mac, body, "sha256"),
            password=request.password,
            text=RegistrationText(handle=request.handle, display_name=request.display_name),
        )

    async def _holder(self, wanted: _Wanted) -> NameRow | None:
        rows = await users.by_name(self._parts.views, [wanted.name_key])
        return rows.get(wanted.name_key)

    async def _claim(
        self, call: Call, wanted: _Wanted, data_key: bytes, password_hash: str
    ) -> None:
        """Returns when the view has decided whose the name is."""
        user_id = call.user_id
        await self._vault.write_identity(call, user_id, data_key, password_hash)
        claim = Claim(
            user_id=user_id,
            name_key=wanted.name_key,
            text=wanted.text,
            data_key=data_key,
            request_id=wanted.request_id,
            body_mac=wanted.body_mac,
            at_ms=self._parts.clock.now_ms(),
        )
        appended = await call.append("names", wanted.name_key, name_claimed(claim))
        await call.applied(users.VIEW, appended)

    async def _check_password(self, holder: NameRow, wanted: _Wanted) -> int:
        """Of an earlier try: the generation of sessions that goes with its password. Who has
        changed it since is not logged in by a copy of his registration.
        """
        held = await self._vault.credentials(holder.user_id)
        if not await self._parts.passwords.matches(held.password_hash, wanted.password):
            raise _taken()
        return held.sessions_generation

    async def _row(self, user_id: int) -> UserRow | None:
        return (await users.by_id_deactivated_too(self._parts.views, [user_id])).get(user_id)

    async def _complete(
        self, call: Call, holder: NameRow, wanted: _Wanted, data_key: bytes | None
    ) -> Appended:
        user_id = holder.user_id
        data_key = data_key or await self._parts.data_keys.of(user_id)
        if data_key is None:
            raise StoreUnavailable(f"user {user_id} holds a name and has no data key")
        event = user_registered(
            user_id,
            wanted.name_key,
            holder.claim_number,
            wanted.text,
            data_key,
            holder.claimed_ms,
        )
        return await call.append("users", key_of(user_id), event)


def _check_is_mine(holder: NameRow, wanted: _Wanted) -> None:
    if holder.request_id != wanted.request_id:
        raise _taken()
    if not hmac.compare_digest(holder.body_mac, wanted.body_mac):
        raise AlreadyExists(
            "this request_id was used with another body: make a new one",
            reason="REQUEST_ID_REUSED",
        )


def _taken() -> AlreadyExists:
    return AlreadyExists("this handle is taken", reason="HANDLE_TAKEN")
