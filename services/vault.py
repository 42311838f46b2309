"""Secrets as the services use them: written to the log sealed, read from the view.

A session is a refresh-token family. It ends by a mark of its own key, because a rotation that
was under way could write over the family's record; or, with all of the user's, by a record of
kind SESSIONS, whose number is the generation that sessions must have begun under.
"""

import asyncio
from dataclasses import dataclass

from millrace.auth import refresh_token, sealing
from millrace.auth.refresh_token import RefreshToken
from millrace.errors import StoreUnavailable, Unauthenticated
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import Appended
from millrace.views import users, vault
from millrace.views.registration import sealed_secret
from millrace.views.vault import Secret, SecretKey, SessionState
from services.call import Call
from services.parts import Parts
from social.log.v1.vault_pb2 import (
    VAULT_KIND_DATA_KEY,
    VAULT_KIND_FAMILY,
    VAULT_KIND_PASSWORD,
    VAULT_KIND_REVOKED,
    VAULT_KIND_SESSIONS,
    RefreshFamily,
    Sessions,
    VaultKind,
    VaultSecret,
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets for a session."""

    access_token: str
    refresh_token: str
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of one moment: who changes the password writes it first and ends the sessions then, so a
    session that begins under this generation, with this password, is dead once it was changed.
    """

    password_hash: str | None
    sessions_generation: int


class Vault:
    """One a process. Writes are acknowledged, not yet applied, when a method returns."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def write_identity(
        self, call: Call, user_id: int, data_key: bytes, password_hash: str
    ) -> None:
        """What must be in the log before the first event that needs it."""
        await asyncio.gather(
            self._write(call, user_id, VAULT_KIND_DATA_KEY, VaultSecret(data_key=data_key)),
            self.set_password(call, user_id, password_hash),
        )

    async def forget_identity(self, call: Call, user_id: int) -> None:
        """Of a user who never was: nothing else knows him."""
        for kind in (VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD):
            partition = partition_of_owner(user_id, self._parts.log.partitions)
            await call.append("vault", vault.vault_key(user_id, kind), None, partition=partition)

    async def set_password(self, call: Call, user_id: int, password_hash: str) -> Appended:
        secret = VaultSecret(password_hash=password_hash)
        return await self._write(call, user_id, VAULT_KIND_PASSWORD, secret)

    async def credentials(self, user_id: int) -> Credentials:
        """Without a password for nobody, whose id is 0."""
        keys: list[SecretKey] = [
            (user_id, VAULT_KIND_PASSWORD, b""),
            (user_id, VAULT_KIND_SESSIONS, b""),
        ]
        found = await vault.secrets(self._parts.views, keys)
        if user_id and (user_id, VAULT_KIND_PASSWORD, b"") not in found:
            # Another view knows him, so his password is in the log: this one may be behind.
            await wait_for_vault(self._parts, user_id)
            found = await vault.secrets(self._parts.views, keys)
        secret = self._opened(found, user_id, VAULT_KIND_PASSWORD)
        return Credentials(
            secret.password_hash if secret else None,
            vault.sessions_generation(found, user_id),
        )

    async def begin_session(
        self, call: Call, user_id: int, sessions_generation: int, *, restricted: bool = False
    ) -> tuple[Tokens, Appended]:
        """The tokens are for the client once the view has applied what was appended."""
        settings = self._parts.settings
        family, state = refresh_token.new_family(
            self._parts.clock.now_ms(), settings.refresh_family_ttl_s, sessions_generation
        )
        appended = await self._write(
            call, user_id, VAULT_KIND_FAMILY, VaultSecret(family=state), family
        )
        refresh = refresh_token.token_of(user_id, family, state)
        return self._tokens(user_id, family, state, refresh, restricted), appended

    async def rotate_session(self, call: Call, shown: RefreshToken) -> Tokens:
        """Raises Unauthenticated; ends the session when a token is shown again too late."""
        user_id, family = shown.user_id, shown.family
        state = await self._family(user_id, family)
        now_ms = self._parts.clock.now_ms()
        try:
            rotation = refresh_token.rotate(
                state, shown, now_ms, self._parts.settings.refresh_grace_s
            )
        except Unauthenticated as error:
            if error.reason == refresh_token.REUSED:
                await call.applied(vault.VIEW, await self.end_session(call, user_id, family))
            raise
        if rotation.changed:
            await self._write(
                call, user_id, VAULT_KIND_FAMILY, VaultSecret(family=rotation.state), family
            )
        # Whoever is deactivated after this look has his sessions of this generation ended.
        restricted = bool(await users.deactivated_among(self._parts.views, [user_id]))
        return self._tokens(user_id, family, rotation.state, rotation.token, restricted)

    async def end_session(self, call: Call, user_id: int, family: bytes) -> Appended:
        ended = VaultSecret(family=RefreshFamily(revoked=True))
        return await self._write(call, user_id, VAULT_KIND_REVOKED, ended, family)

    async def end_all_sessions(self, call: Call, user_id: int) -> Appended:
        """The number of what was appended is the generation of sessions that begin from now on."""
        ended = VaultSecret(sessions=Sessions())
        return await self._write(call, user_id, VAULT_KIND_SESSIONS, ended)

    async def session_state(self, user_id: int, family: bytes) -> SessionState | None:
        """None for a session that never was one of ours, or that has been swept away."""
        for behind in (False, True):
            if behind:
                await wait_for_vault(self._parts, user_id)
            session = (user_id, family)
            if state := (await vault.session_states(self._parts.views, [session])).get(session):
                return state
        return None

    async def _family(self, user_id: int, family: bytes) -> RefreshFamily:
        """Its state; `revoked` when it has ended. Raises Unauthenticated: never one of ours."""
        keys = vault.session_keys(user_id, family)
        found = await vault.secrets(self._parts.views, keys)
        secret = self._opened(found, user_id, VAULT_KIND_FAMILY, family)
        if secret is None:
            await wait_for_vault(self._parts, user_id)
            found = await vault.secrets(self._parts.views, keys)
            secret = self._opened(found, user_id, VAULT_KIND_FAMILY, family)
        if secret is None:
            raise refresh_token.invalid()
        state = vault.session_state(found, user_id, family)
        if not state.stands(secret.family.sessions_generation):
            secret.family.revoked = True
        return secret.family

    def _tokens(
        self, user_id: int, family: bytes, state: RefreshFamily, refresh: str, restricted: bool
    ) -> Tokens:
        access, expires_in_s = self._parts.tokens.issue(
            user_id, family, state.sessions_generation, restricted=restricted
        )
        return Tokens(access, refresh, expires_in_s)

    def _opened(
        self,
        found: dict[tuple[int, int, bytes], Secret],
        user_id: int,
        kind: VaultKind.ValueType,
        family: bytes = b"",
    ) -> VaultSecret | None:
        secret = found.get((user_id, int(kind), family))
        if secret is None:
            return None
        key = vault.vault_key(user_id, kind, family)
        return sealing.open_secret(self._parts.keys.master, key, secret.box)

    async def _write(
        self,
        call: Call,
        user_id: int,
        kind: VaultKind.ValueType,
        secret: VaultSecret,
        family: bytes = b"",
    ) -> Appended:
        parts = self._parts
        key, record = sealed_secret(parts.keys.master, user_id, kind, secret, family)
        partition = partition_of_owner(user_id, parts.log.partitions)
        return await call.append("vault", key, record, partition=partition)


async def wait_for_vault(parts: Parts, user_id: int) -> None:
    """Until the view covers what the log holds for this user now: what is not there then never
    was, or has ended. Raises StoreUnavailable after `token_wait_ms`.
    """
    ends = await parts.log_ends.of("vault")
    partition = partition_of_owner(user_id, len(ends))
    needs = {("vault", partition): ends[partition]}
    timeout_s = parts.settings.token_wait_ms / 1000
    if not await parts.positions.covers(vault.VIEW.name, needs, timeout_s):
        raise StoreUnavailable("the vault view is behind the log")
