"""The events that make a user, as services and the graph loader write them.

In this order: the secrets (vault), the claim of the name (names), and, when the view has decided
that the claim holds, the registration that cites the claim's number (users).
"""

from dataclasses import dataclass

from millrace.auth import sealing
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import NewRecord
from millrace.views.vault import vault_key
from social.log.v1.names_pb2 import NameClaimed, NamesEvent
from social.log.v1.users_pb2 import RegistrationText, UserRegistered, UsersEvent
from social.log.v1.vault_pb2 import (
    VAULT_KIND_DATA_KEY,
    VAULT_KIND_PASSWORD,
    VaultKey,
    VaultKind,
    VaultRecord,
    VaultSecret,
)


@dataclass(frozen=True, slots=True)
class NewUser:
    """What a registration is made of. `request_id`: 16 bytes; `body_mac`: 32 bytes."""

    user_id: int
    name_key: bytes
    text: RegistrationText
    data_key: bytes
    password_hash: str
    request_id: bytes
    body_mac: bytes
    at_ms: int


def secrets_of(user: NewUser, master: bytes, partitions: int) -> tuple[NewRecord, NewRecord]:
    """For topic vault: data key and password hash."""
    partition = partition_of_owner(user.user_id, partitions)

    def sealed(kind: VaultKind.ValueType, secret: VaultSecret) -> NewRecord:
        key = vault_key(user.user_id, kind)
        box = sealing.seal_secret(master, key, secret)
        record = VaultRecord(key=VaultKey(user_id=user.user_id, kind=kind), box=box)
        return NewRecord(key, record.SerializeToString(), partition)

    return (
        sealed(VAULT_KIND_DATA_KEY, VaultSecret(data_key=user.data_key)),
        sealed(VAULT_KIND_PASSWORD, VaultSecret(password_hash=user.password_hash)),
    )


def claim_of(user: NewUser) -> NewRecord:
    """For topic names."""
    claimed = NameClaimed(
        name_key=user.name_key,
        user_id=user.user_id,
        at_ms=user.at_ms,
        request_id=user.request_id,
        body_mac=user.body_mac,
        sealed=sealing.seal_text(user.data_key, user.user_id, user.text),
    )
    return NewRecord(user.name_key, NamesEvent(claimed=claimed).SerializeToString())


def registration_of(user: NewUser, claim_number: int) -> NewRecord:
    """For topic users."""
    registered = UserRegistered(
        user_id=user.user_id,
        at_ms=user.at_ms,
        name_key=user.name_key,
        claim_number=claim_number,
        sealed=sealing.seal_text(user.data_key, user.user_id, user.text),
    )
    return NewRecord(key_of(user.user_id), UsersEvent(registered=registered).SerializeToString())
