"""Sealed secrets: data keys, password hashes, refresh-token families; and which sessions stand.

Source:  VaultRecord (topic vault, compacted, placed by the user, the owner)
Store:   postgres vault (user_id, kind, family); position in the same transaction
Cache:   none; opened data keys are kept by `data_keys`
Bound:   100 keys a read
Replay:  idempotent: a record is a full state; the newest of a key is enough
Stale:   by projection lag
Not:     the master key, which no store holds
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from google.protobuf.message import DecodeError

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.relations import Entity, View
from millrace.stores.changes import Change, Key
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column
from social.log.v1 import vault_pb2 as log
from social.log.v1.vault_pb2 import (
    VAULT_KIND_FAMILY,
    VAULT_KIND_REVOKED,
    VAULT_KIND_SESSIONS,
    VaultKind,
)

# (user, kind, family) and (user, family).
SecretKey = tuple[int, VaultKind.ValueType, bytes]
Session = tuple[int, bytes]
SESSION_KEYS = 3
_FAMILY = int(VAULT_KIND_FAMILY)
_REVOKED = int(VAULT_KIND_REVOKED)
_SESSIONS = int(VAULT_KIND_SESSIONS)

VAULT = Entity(
    "vault",
    key=(Column("user_id"), Column("kind", "int"), Column("family", "bytes")),
    columns=(Column("box", "bytes"),),
    reusable=True,
)


def vault_key(user_id: int, kind: VaultKind.ValueType, family: bytes = b"") -> bytes:
    """The record key of a secret; compaction and the seal's binding rely on its bytes."""
    key = log.VaultKey(user_id=user_id, kind=kind, family=family)
    return key.SerializeToString(deterministic=True)


def project(event: Event) -> Sequence[Change]:
    key = log.VaultKey()
    try:
        key.ParseFromString(event.key)
    except DecodeError as error:
        raise PoisonEvent("the record's key is not a VaultKey") from error
    if key.user_id <= 0 or not key.kind:
        raise PoisonEvent("a secret of nobody")
    message = event.message
    if not isinstance(message, log.VaultRecord):
        raise PoisonEvent(f"{message.DESCRIPTOR.name} in topic vault")
    row_key: Key = (key.user_id, int(key.kind), key.family)
    if not message.box:
        return [VAULT.end(event, row_key)]
    return [VAULT.put(event, row_key, {"box": message.box})]


@dataclass(frozen=True, slots=True)
class Secret:
    """A sealed secret that stands, and the number of the record that wrote it."""

    box: bytes
    number: int


class SessionState(NamedTuple):
    """`generation`: the user's present one. A session that began under an older one has ended."""

    revoked: bool
    generation: int

    def stands(self, begun_generation: int) -> bool:
        return not self.revoked and self.generation <= begun_generation


async def secrets(
    store: ViewStore, keys: Sequence[SecretKey]
) -> dict[tuple[int, int, bytes], Secret]:
    """Secrets that stand, by (user, kind, family), all of one moment. At most 100."""
    rows = await VAULT.get_many(store, [(user, int(kind), family) for user, kind, family in keys])
    return {
        (cast(int, user), cast(int, kind), cast(bytes, family)): Secret(
            cast(bytes, row.values["box"]), row.number
        )
        for (user, kind, family), row in rows.items()
    }


async def boxes(store: ViewStore, keys: Sequence[SecretKey]) -> dict[tuple[int, int, bytes], bytes]:
    """Sealed secrets that stand, by (user, kind, family). At most 100."""
    return {key: secret.box for key, secret in (await secrets(store, keys)).items()}


async def session_states(
    store: ViewStore, sessions: Sequence[Session]
) -> dict[Session, SessionState]:
    """By session; one whose family the view does not know is left out. At most 100
    keys, and a session takes `SESSION_KEYS`.
    """
    # On every call, so without the boxes.
    keys: list[Key] = []
    for user_id, family in sessions:
        keys += ((user_id, _FAMILY, family), (user_id, _REVOKED, family), (user_id, _SESSIONS, b""))
    numbers = await VAULT.numbers(store, keys)
    return {
        session: SessionState(
            revoked=(session[0], _REVOKED, session[1]) in numbers,
            generation=numbers.get((session[0], _SESSIONS, b""), 0),
        )
        for session in sessions
        if (session[0], _FAMILY, session[1]) in numbers
    }


def session_keys(user_id: int, family: bytes) -> tuple[SecretKey, SecretKey, SecretKey]:
    """What tells whether a session stands."""
    return (
        (user_id, VAULT_KIND_FAMILY, family),
        (user_id, VAULT_KIND_REVOKED, family),
        (user_id, VAULT_KIND_SESSIONS, b""),
    )


def session_state(
    found: Mapping[tuple[int, int, bytes], Secret], user_id: int, family: bytes
) -> SessionState:
    """From what `secrets` found of `session_keys`."""
    return SessionState(
        revoked=(user_id, VAULT_KIND_REVOKED, family) in found,
        generation=sessions_generation(found, user_id),
    )


def sessions_generation(found: Mapping[tuple[int, int, bytes], Secret], user_id: int) -> int:
    """The number of the record that last ended all of the user's sessions, or 0."""
    ended = found.get((user_id, VAULT_KIND_SESSIONS, b""))
    return ended.number if ended else 0


VIEW = View("vault", topics=("vault",), project=project, entities=(VAULT,))
