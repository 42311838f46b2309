"""Who there is: handles, profiles, who is deactivated, and who holds which name.

Source:  NameClaimed, NameFreed (topic names, key name), UserRegistered, ProfileUpdated,
         HandleChanged, UserDeactivated, UserReactivated (topic users, key user, the owner)
Store:   postgres users (user_id), names (name_key); position in the same transaction
Cache:   none yet
Bound:   100 keys a read
Replay:  idempotent: the first claim of a free name and the first registration of a user count; a
         changed handle counts only from the claim that it names
Stale:   by projection lag; never older than the caller's position
Not:     secrets (vault), followers and following counts (follows)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Entity, View
from millrace.stores.changes import Change, Scalar
from millrace.stores.fold import Row
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column
from social.log.v1 import names_pb2, users_pb2

NAME_KEY_BYTES = 32

USERS = Entity(
    "users",
    key=(Column("user_id"),),
    columns=(
        Column("name_key", "bytes"),
        Column("claim_number"),
        Column("handle", "text"),
        Column("display_name", "text"),
        Column("bio", "text"),
        Column("registered_ms"),
        Column("deactivated", "bool"),
    ),
    cache_ttl_s=3_600,
    policy=True,
)
NAMES = Entity(
    "names",
    key=(Column("name_key", "bytes"),),
    columns=(
        Column("user_id"),
        Column("request_id", "bytes"),
        Column("body_mac", "bytes"),
        Column("claim_number"),
        Column("claimed_ms"),
        Column("frees_name_key", "bytes"),
        Column("frees_claim_number"),
    ),
    reusable=True,
    cache_ttl_s=3_600,
)


class Cited(NamedTuple):
    """A claim of a name, as users and other claims speak of it. Numbers repeat between names."""

    name_key: bytes
    claim_number: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """`handle` is empty while the names row does not agree. `cites`: the claim it came from."""

    user_id: int
    handle: str
    display_name: str
    bio: str
    registered_ms: int
    deactivated: bool
    cites: Cited


@dataclass(frozen=True, slots=True)
class NameRow:
    """Who holds a name, and by which request. `frees`: of a rename the claim that it takes the
    place of, else number 0.
    """

    user_id: int
    request_id: bytes
    body_mac: bytes
    claim_number: int
    claimed_ms: int
    frees: Cited


def project(event: Event) -> Sequence[Change]:
    message = event.message
    if isinstance(message, names_pb2.NameClaimed):
        return _claimed(event, message)
    if isinstance(message, names_pb2.NameFreed):
        return _freed(event, message)
    if isinstance(message, users_pb2.UserRegistered):
        return _registered(event, message)
    if isinstance(message, users_pb2.ProfileUpdated):
        _owned_by(event, message.user_id)
        text = users_pb2.ProfileText.FromString(event.text)
        values = {"display_name": text.display_name, "bio": text.bio}
        return [USERS.update(event, (message.user_id,), values)]
    if isinstance(message, users_pb2.HandleChanged):
        return _handle_changed(event, message)
    if isinstance(message, users_pb2.UserDeactivated | users_pb2.UserReactivated):
        _owned_by(event, message.user_id)
        deactivated = isinstance(message, users_pb2.UserDeactivated)
        return [USERS.update(event, (message.user_id,), {"deactivated": deactivated})]
    raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to users")


def _claimed(event: Event, message: names_pb2.NameClaimed) -> Sequence[Change]:
    if len(message.name_key) != NAME_KEY_BYTES or event.key != message.name_key:
        raise PoisonEvent("a claim is keyed by its name")
    values: dict[str, Scalar] = {
        "user_id": message.user_id,
        "request_id": message.request_id,
        "body_mac": message.body_mac,
        "claim_number": event.number,
        "claimed_ms": message.at_ms,
        "frees_name_key": message.frees_name_key,
        "frees_claim_number": message.frees_claim_number,
    }
    return [NAMES.create(event, (message.name_key,), values, at_ms=message.at_ms)]


def _freed(event: Event, message: names_pb2.NameFreed) -> Sequence[Change]:
    if len(message.name_key) != NAME_KEY_BYTES or event.key != message.name_key:
        raise PoisonEvent("a freed name is keyed by its name")
    held: dict[str, Scalar] = {
        "user_id": message.user_id,
        "claim_number": message.claim_number,
    }
    return [NAMES.end(event, (message.name_key,), held)]


def _registered(event: Event, message: users_pb2.UserRegistered) -> Sequence[Change]:
    _owned_by(event, message.user_id)
    text = users_pb2.RegistrationText.FromString(event.text)
    values: dict[str, Scalar] = {
        "name_key": message.name_key,
        "claim_number": message.claim_number,
        "handle": text.handle,
        "display_name": text.display_name,
        "bio": text.bio,
        "registered_ms": message.at_ms,
    }
    return [USERS.create(event, (message.user_id,), values, at_ms=message.at_ms)]


def _handle_changed(event: Event, message: users_pb2.HandleChanged) -> Sequence[Change]:
    _owned_by(event, message.user_id)
    values: dict[str, Scalar] = {
        "name_key": message.name_key,
        "claim_number": message.claim_number,
        "handle": users_pb2.HandleText.FromString(event.text).handle,
    }
    cited: dict[str, Scalar] = {
        "name_key": message.frees_name_key,
        "claim_number": message.frees_claim_number,
    }
    return [USERS.update(event, (message.user_id,), values, cited)]


def _owned_by(event: Event, user_id: int) -> None:
    if user_id <= 0 or event.key != key_of(user_id):
        raise PoisonEvent("the record's key is not the event's owner")


async def by_id(store: ViewStore, user_ids: Iterable[int]) -> dict[int, UserRow]:
    """Users by id; who is not there, or is deactivated, is left out. At most 100."""
    rows = await by_id_deactivated_too(store, user_ids)
    return {user_id: row for user_id, row in rows.items() if not row.deactivated}


async def by_id_deactivated_too(store: ViewStore, user_ids: Iterable[int]) -> dict[int, UserRow]:
    """Registered users by id, for those who act and for what finishes their writes. At most 100."""
    found = await _with_names(store, user_ids)
    # A rename that came between the two reads has freed the name of the row: it has another now.
    if nameless := [user_id for user_id, row in found.items() if not row.handle]:
        found |= await _with_names(store, nameless)
    return found


async def _with_names(store: ViewStore, user_ids: Iterable[int]) -> dict[int, UserRow]:
    rows = await USERS.get_many(store, [(user_id,) for user_id in dict.fromkeys(user_ids)])
    names = await by_name(store, {cast(bytes, row.values["name_key"]) for row in rows.values()})
    users = {}
    for key, row in rows.items():
        user_id = cast(int, key[0])
        holder = names.get(cast(bytes, row.values["name_key"]))
        agrees = holder is not None and (holder.user_id, holder.claim_number) == (
            user_id,
            row.values["claim_number"],
        )
        users[user_id] = _user_row(user_id, row, handle_shown=agrees)
    return users


async def deactivated_among(store: ViewStore, user_ids: Iterable[int]) -> set[int]:
    """Which of them are deactivated, in one read. At most 100."""
    rows = await USERS.get_many(store, [(user_id,) for user_id in dict.fromkeys(user_ids)])
    return {cast(int, key[0]) for key, row in rows.items() if row.values["deactivated"]}


async def by_name(store: ViewStore, name_keys: Iterable[bytes]) -> dict[bytes, NameRow]:
    """Holders of names by name key; free names are left out. At most 100.

    A user holds two names while he is renamed: his is the one that his row cites (`has_name`).
    """
    rows = await NAMES.get_many(store, [(name_key,) for name_key in name_keys])
    return {
        cast(bytes, key[0]): NameRow(
            user_id=cast(int, row.values["user_id"]),
            request_id=cast(bytes, row.values["request_id"]),
            body_mac=cast(bytes, row.values["body_mac"]),
            claim_number=cast(int, row.values["claim_number"]),
            claimed_ms=cast(int, row.values["claimed_ms"]),
            frees=Cited(
                cast(bytes, row.values["frees_name_key"]),
                cast(int, row.values["frees_claim_number"]),
            ),
        )
        for key, row in rows.items()
    }


async def by_handle(store: ViewStore, name_keys: Iterable[bytes]) -> dict[bytes, UserRow]:
    """Users by the name under which they are shown, deactivated ones too. At most 100."""
    holders = await by_name(store, name_keys)
    rows = await by_id_deactivated_too(store, {holder.user_id for holder in holders.values()})
    return {
        key: row
        for key, holder in holders.items()
        if (row := rows.get(holder.user_id)) is not None and has_name(row, key)
    }


def has_name(row: UserRow, name_key: bytes) -> bool:
    """Whether this is the name under which the user is shown."""
    return row.cites.name_key == name_key and bool(row.handle)


def _user_row(user_id: int, row: Row, *, handle_shown: bool) -> UserRow:
    return UserRow(
        user_id=user_id,
        handle=cast(str, row.values["handle"]) if handle_shown else "",
        display_name=cast(str, row.values["display_name"]),
        bio=cast(str, row.values["bio"]),
        registered_ms=cast(int, row.values["registered_ms"]),
        deactivated=cast(bool, row.values["deactivated"]),
        cites=Cited(cast(bytes, row.values["name_key"]), cast(int, row.values["claim_number"])),
    )


VIEW = View("users", topics=("names", "users"), project=project, entities=(USERS, NAMES))
