"""Finishes renames whose service died, by the rules of `millrace/views/renaming.py`.

Looks at claims that are old enough, when the views have them: goes on where the user's row still
cites what the claim frees, and frees what nobody can ever cite, be it the claim or the old name.
All of it may be done twice.
"""

from collections.abc import Awaitable, Callable

from millrace.log.partitioner import key_of
from millrace.log.port import Appended, Log
from millrace.observe import logs, metrics
from millrace.stores.port import ViewStore
from millrace.views import renaming, users
from millrace.views.renaming import Step
from millrace.views.users import Cited, UserRow
from social.log.v1.names_pb2 import NameClaimed

logger = logs.logger("streams.renames")


async def finish(
    store: ViewStore,
    log: Log,
    applied: Callable[[Appended], Awaitable[None]],
    still: Callable[[], Awaitable[None]],
    event: NameClaimed,
    number: int,
) -> None:
    """`event` is the claim of a rename, `number` its own. `applied` waits for view users, `still`
    raises StoreUnavailable when it went back since the caller saw it cover the claim.
    """
    user_id = event.user_id
    claim = Cited(event.name_key, number)
    frees = Cited(event.frees_name_key, event.frees_claim_number)
    # The names before the row: a row that is newer than a claim tells whether it is dead.
    held = await _held(store, user_id, claim, frees)
    row = await _row(store, user_id)
    if claim in held and renaming.next_step(row, claim, frees) is Step.CHANGE:
        changed = renaming.handle_changed(user_id, claim, frees, event.sealed, event.at_ms)
        await applied(await log.append("users", key_of(user_id), changed.SerializeToString()))
        row = await _row(store, user_id)
        metrics.RENAMES_COMPLETED.inc()
        logger.info("completed", user_id=user_id)
    for one in held:
        # The row has cited what the claim frees, or there was no such claim.
        dead = (
            renaming.next_step(row, claim, frees) is Step.FREE_DEAD
            if one == claim
            else row is not None and row.cites != frees
        )
        if dead:
            await still()
            freed = renaming.name_freed(user_id, one, event.at_ms)
            await log.append("names", one.name_key, freed.SerializeToString())


async def _held(store: ViewStore, user_id: int, *claims: Cited) -> list[Cited]:
    """Those of the user's claims that hold their names."""
    holders = await users.by_name(store, {claim.name_key for claim in claims})
    return [
        claim
        for claim in dict.fromkeys(claims)
        if (holder := holders.get(claim.name_key)) is not None
        and (holder.user_id, holder.claim_number) == (user_id, claim.claim_number)
    ]


async def _row(store: ViewStore, user_id: int) -> UserRow | None:
    return (await users.by_id_deactivated_too(store, [user_id])).get(user_id)
