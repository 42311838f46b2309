"""Secrets as the services use them: written to the log sealed, read from the view.

A session is a refresh-token family. It ends by a mark of its own key, because a rotation that
was under way could write over the family's record.
"""

import asyncio
from dataclasses import dataclass

from millrace.auth import refresh_token, sealing
from millrace.auth.refresh_token import RefreshToken
from millrace.errors import StoreUnavailable, Unauthenticated
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import Appended
from millrace.views import vault
from services.call import Call
from services.parts import Parts
from social.log.v1.vault_pb2 import (
    VAULT_KIND_DATA_KEY,
    VAULT_KIND_FAMILY,
    VAULT_KIND_PASSWORD,
    VAULT_KIND_REVOKED,
    RefreshFamily,
    VaultKey,
    VaultKind,
    VaultRecord,
    VaultSecret,
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client gets for a session."""

    access_token: str
    refresh_token: str
    expires_in_s: int


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
            self._write(
                call, user_id, VAULT_KIND_PASSWORD, VaultSecret(password_hash=password_hash)
            ),
        )

    async def forget_identity(self, call: Call, user_id: int) -> None:
        """Of a user who never was: nothing else knows him."""
        for kind in (VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD):
            await self._append(call, user_id, kind, b"", None)

    async def password_hash(self, user_id: int) -> str | None:
        secret = await self._read(user_id, VAULT_KIND_PASSWORD)
        return secret.password_hash if secret else None

    async def begin_session(self, call: Call, user_id: int) -> tuple[Tokens, Appended]:
        """The tokens are for the client once the view has applied what was appended."""
        settings = self._parts.settings
        family, state = refresh_token.new_family(
            self._parts.clock.now_ms(), settings.refresh_family_ttl_s
        )
        appended = await self._write(
            call, user_id, VAULT_KIND_FAMILY, VaultSecret(family=state), family
        )
        return self._tokens(
            user_id, family, refresh_token.token_of(user_id, family, state)
        ), appended

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
                await self._end_session(call, user_id, family)
            raise
        if rotation.changed:
            await self._write(
                call, user_id, VAULT_KIND_FAMILY, VaultSecret(family=rotation.state), family
            )
        return self._tokens(user_id, family, rotation.token)

    async def _end_session(self, call: Call, user_id: int, family: bytes) -> None:
        ended = VaultSecret(family=RefreshFamily(revoked=True))
        appended = await self._write(call, user_id, VAULT_KIND_REVOKED, ended, family)
        await call.applied(vault.VIEW, appended)

    async def _family(self, user_id: int, family: bytes) -> RefreshFamily:
        """Its state; `revoked` when it has ended or never was one of ours."""
        secret = await self._read(user_id, VAULT_KIND_FAMILY, family)
        if secret is None:
            await wait_for_vault(self._parts, user_id)
            secret = await self._read(user_id, VAULT_KIND_FAMILY, family)
        if secret is None:
            raise refresh_token.invalid()
        if await self._read(user_id, VAULT_KIND_REVOKED, family) is not None:
            secret.family.revoked = True
        return secret.family

    def _tokens(self, user_id: int, family: bytes, refresh: str) -> Tokens:
        access, expires_in_s = self._parts.tokens.issue(user_id, family)
        return Tokens(access, refresh, expires_in_s)

    async def _read(
        self, user_id: int, kind: VaultKind.ValueType, family: bytes = b""
    ) -> VaultSecret | None:
        boxes = await vault.boxes(self._parts.views, [(user_id, kind, family)])
        box = boxes.get((user_id, int(kind), family))
        if box is None:
            return None
        key = vault.vault_key(user_id, kind, family)
        return sealing.open_secret(self._parts.keys.master, key, box)

    async def _write(
        self,
        call: Call,
        user_id: int,
        kind: VaultKind.ValueType,
        secret: VaultSecret,
        family: bytes = b"",
    ) -> Appended:
        key = vault.vault_key(user_id, kind, family)
        box = sealing.seal_secret(self._parts.keys.master, key, secret)
        named = VaultKey(user_id=user_id, kind=kind, family=family)
        return await self._append(call, user_id, kind, family, VaultRecord(key=named, box=box))

    async def _append(
        self,
        call: Call,
        user_id: int,
        kind: VaultKind.ValueType,
        family: bytes,
        record: VaultRecord | None,
    ) -> Appended:
        key = vault.vault_key(user_id, kind, family)
        partition = partition_of_owner(user_id, self._parts.log.partitions)
        return await call.append("vault", key, record, partition=partition)


async def wait_for_vault(parts: Parts, user_id: int) -> None:
    """Until the view covers what the log holds for this user now: what is not there then never
    was, or has ended. Raises StoreUnavailable after `token_wait_ms`.
    """
    ends = await parts.log.ends("vault")
    partition = partition_of_owner(user_id, len(ends))
    needs = {("vault", partition): ends[partition]}
    timeout_s = parts.settings.token_wait_ms / 1000
    if not await parts.positions.covers(vault.VIEW.name, needs, timeout_s):
        raise StoreUnavailable("the vault view is behind the log")
