"""ChangeHandle: the steps of `millrace/views/renaming.py`, each when the view has the one before.

Killed anywhere, a retry goes on, and so does the completing task of `streams/renames.py`. When
another rename of the same user comes in between, this one has been there just before it: its
claim is freed, and it succeeds.
"""

import hmac
import uuid
from dataclasses import dataclass

from millrace import policy
from millrace.auth import names
from millrace.errors import AlreadyExists, FailedPrecondition, OutcomeUnknown
from millrace.log.partitioner import key_of
from millrace.views import renaming, users
from millrace.views.renaming import Step
from millrace.views.users import Cited, NameRow, UserRow
from services.call import Call
from services.parts import Parts
from social.log.v1.sealed_pb2 import Sealed
from social.v1 import users_pb2 as pb


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request as the log knows it. `body_mac` tells it from another under the same id."""

    name_key: bytes
    handle: str
    sealed: Sealed
    request_id: bytes
    body_mac: bytes


class Renaming:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.views

    async def rename(self, call: Call, request: pb.ChangeHandleRequest) -> None:
        """Raises AlreadyExists (HANDLE_TAKEN, REQUEST_ID_REUSED) and OutcomeUnknown."""
        await call.stale(users.VIEW)
        wanted = await self._wanted(call.user_id, request)
        # The name before the row: a row that is newer than the claim tells whether it is dead.
        holder = await self._holder(wanted.name_key)
        row = await self._row(call.user_id)
        policy.check_user_seen(not row.deactivated)
        if row.cites.name_key == wanted.name_key:
            await self._rewrite(call, row, wanted)
            return
        if holder is not None:
            _check_is_mine(call, holder, wanted)
            claim = Cited(wanted.name_key, holder.claim_number)
            if renaming.next_step(row, claim, holder.frees) is Step.FREE_DEAD:
                await self._free(call, claim)
                holder = None
        if holder is None:
            holder = await self._claim(call, row, wanted)
            _check_is_mine(call, holder, wanted)
        await self._change(call, holder, wanted)

    async def _wanted(self, user_id: int, request: pb.ChangeHandleRequest) -> _Wanted:
        data_key = await self._parts.data_keys.of(user_id)
        if data_key is None:
            raise FailedPrecondition("this account has been erased", reason="USER_ERASED")
        keys = self._parts.keys
        body = b"ChangeHandle\0" + request.SerializeToString(deterministic=True)
        return _Wanted(
            name_key=names.name_key(keys, request.handle),
            handle=request.handle,
            sealed=renaming.seal_handle(data_key, user_id, request.handle),
            request_id=uuid.UUID(request.request_id).bytes,
            body_mac=hmac.digest(keys.body_mac, body, "sha256"),
        )

    async def _holder(self, name_key: bytes) -> NameRow | None:
        return (await users.by_name(self._store, [name_key])).get(name_key)

    async def _row(self, user_id: int) -> UserRow:
        rows = await users.by_id_deactivated_too(self._store, [user_id])
        policy.check_user_seen(user_id in rows)
        return rows[user_id]

    async def _rewrite(self, call: Call, row: UserRow, wanted: _Wanted) -> None:
        """The row cites the name already: a retry, or another case of letters."""
        holder = await self._holder(wanted.name_key)
        if holder is None or holder.claim_number != row.cites.claim_number:
            raise OutcomeUnknown("another rename of this user is under way")
        _check_is_mine(call, holder, wanted)
        if row.handle != wanted.handle:
            changed = renaming.handle_changed(
                call.user_id, row.cites, row.cites, wanted.sealed, self._parts.clock.now_ms()
            )
            await call.applied(
                users.VIEW, await call.append("users", key_of(call.user_id), changed)
            )
        await self._free(call, holder.frees)

    async def _claim(self, call: Call, row: UserRow, wanted: _Wanted) -> NameRow:
        """Who has the name, when the view has decided."""
        claimed = renaming.name_claimed(
            call.user_id,
            wanted.name_key,
            row.cites,
            wanted.sealed,
            request_id=wanted.request_id,
            body_mac=wanted.body_mac,
            at_ms=self._parts.clock.now_ms(),
        )
        await call.applied(users.VIEW, await call.append("names", wanted.name_key, claimed))
        holder = await self._holder(wanted.name_key)
        if holder is None:
            raise OutcomeUnknown("the claim was freed by another rename of this user")
        return holder

    async def _change(self, call: Call, holder: NameRow, wanted: _Wanted) -> None:
        user_id, claim = call.user_id, Cited(wanted.name_key, holder.claim_number)
        changed = renaming.handle_changed(
            user_id, claim, holder.frees, wanted.sealed, holder.claimed_ms
        )
        await call.applied(users.VIEW, await call.append("users", key_of(user_id), changed))
        match renaming.next_step(await self._row(user_id), claim, holder.frees):
            case Step.FREE_OLD:
                await self._free(call, holder.frees)
            case Step.FREE_DEAD:
                await self._free(call, claim)
            case Step.CHANGE:
                raise OutcomeUnknown("the view has put the changed handle aside")

    async def _free(self, call: Call, claim: Cited) -> None:
        """Of the caller's, if it still holds its name."""
        holder = await self._holder(claim.name_key) if claim.claim_number else None
        held = holder is not None and (holder.user_id, holder.claim_number) == (
            call.user_id,
            claim.claim_number,
        )
        if held:
            freed = renaming.name_freed(call.user_id, claim, self._parts.clock.now_ms())
            await call.applied(users.VIEW, await call.append("names", claim.name_key, freed))


def _check_is_mine(call: Call, holder: NameRow, wanted: _Wanted) -> None:
    if holder.user_id != call.user_id:
        raise AlreadyExists("this handle is taken", reason="HANDLE_TAKEN")
    if holder.request_id == wanted.request_id and not hmac.compare_digest(
        holder.body_mac, wanted.body_mac
    ):
        raise AlreadyExists(
            "this request_id was used with another body: make a new one",
            reason="REQUEST_ID_REUSED",
        )
