"""Sealed secrets: data keys, password hashes, refresh-token families.

Source:  VaultRecord (topic vault, compacted, placed by the user, the owner)
Store:   postgres vault (user_id, kind, family); position in the same transaction
Cache:   none; opened data keys are kept by `data_keys`
Bound:   100 keys a read
Replay:  idempotent: a record is a full state; the newest of a key is enough
Stale:   by projection lag
Not:     the master key, which no store holds
"""

from collections.abc import Sequence
from typing import cast

from google.protobuf.message import DecodeError

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.relations import Entity, View
from millrace.stores.changes import Change, Key
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column
from social.log.v1 import vault_pb2 as log
from social.log.v1.vault_pb2 import VaultKind

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


async def boxes(
    store: ViewStore, keys: Sequence[tuple[int, VaultKind.ValueType, bytes]]
) -> dict[tuple[int, int, bytes], bytes]:
    """Sealed secrets that stand, by (user, kind, family). At most 100."""
    rows = await VAULT.get_many(store, [(user, int(kind), family) for user, kind, family in keys])
    return {
        (cast(int, user), cast(int, kind), cast(bytes, family)): cast(bytes, row.values["box"])
        for (user, kind, family), row in rows.items()
    }


VIEW = View("vault", topics=("vault",), project=project, entities=(VAULT,))
