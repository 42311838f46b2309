"""The events that give a user another handle, and which of them comes next.

    1  names: NameClaimed, which says what it frees             the view decides whose the name is
    2  users: HandleChanged, from the freed claim to the new     the view decides whether it counts
    3  names: NameFreed of the old name

Services and the completing task write the same ones, in this order, each when the view has
applied the one before. So the user has a handle at every moment: the old one until 2 is applied,
then the new one. Any step may be repeated or come late:

- A HandleChanged counts only while the row cites what its claim frees, and a claim frees the one
  that the row cited when it was made. So the row walks from claim to claim and never comes back
  to one: a claim that it does not cite, and of which it does not cite what it frees, is dead.
- Of two renames at once one counts; the claim of the other is dead from then on. Whoever meets a
  dead claim frees it: the service that made it, or else the task.
- NameFreed is guarded by user and number, so it never takes a name from a later holder.
"""

from enum import Enum

from millrace.auth import sealing
from millrace.views.users import Cited, UserRow
from social.log.v1.names_pb2 import NameClaimed, NameFreed, NamesEvent
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.users_pb2 import HandleChanged, HandleText, UsersEvent


class Step(Enum):
    """What a claim of a rename that holds its name needs next."""

    CHANGE = "HandleChanged: the row still cites what the claim frees"
    FREE_OLD = "NameFreed of the old name: the row cites the claim"
    FREE_DEAD = "NameFreed of the claim itself: it can never be cited"


def next_step(row: UserRow | None, claim: Cited, frees: Cited) -> Step:
    """`claim` holds its name; `row`: its user's, None when he is not there."""
    if row is not None and row.cites == claim:
        return Step.FREE_OLD
    if row is not None and row.cites == frees:
        return Step.CHANGE
    return Step.FREE_DEAD


def seal_handle(data_key: bytes, user_id: int, handle: str) -> Sealed:
    return sealing.seal_text(data_key, user_id, HandleText(handle=handle))


def name_claimed(
    user_id: int,
    name_key: bytes,
    frees: Cited,
    sealed: Sealed,
    *,
    request_id: bytes,
    body_mac: bytes,
    at_ms: int,
) -> NamesEvent:
    """For topic names, key: the name key. `sealed`: a HandleText."""
    event = NameClaimed(
        name_key=name_key,
        user_id=user_id,
        at_ms=at_ms,
        request_id=request_id,
        body_mac=body_mac,
        sealed=sealed,
        frees_name_key=frees.name_key,
        frees_claim_number=frees.claim_number,
    )
    return NamesEvent(claimed=event)


def handle_changed(
    user_id: int, claim: Cited, frees: Cited, sealed: Sealed, at_ms: int
) -> UsersEvent:
    """For topic users, key: the user. Another case of the same name: `frees` is `claim`."""
    event = HandleChanged(
        user_id=user_id,
        at_ms=at_ms,
        name_key=claim.name_key,
        claim_number=claim.claim_number,
        sealed=sealed,
        frees_name_key=frees.name_key,
        frees_claim_number=frees.claim_number,
    )
    return UsersEvent(handle_changed=event)


def name_freed(user_id: int, claim: Cited, at_ms: int) -> NamesEvent:
    """For topic names, key: the name key."""
    event = NameFreed(
        name_key=claim.name_key,
        user_id=user_id,
        claim_number=claim.claim_number,
        at_ms=at_ms,
    )
    return NamesEvent(freed=event)
