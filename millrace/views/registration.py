"""The events that make a user: services and the graph loader write the same ones.

In this order: the secrets (vault), the claim of the name (names), and, when the view has decided
that the claim holds, the registration that cites the claim's number (users).
"""

from dataclasses import dataclass

from millrace.auth import sealing
from millrace.log.partitioner import partition_of_owner
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
class Claim:
    """Who wants which name. `request_id`: 16 bytes; `body_mac`: 32 bytes, tells a retry from
    another request.
    """

    user_id: int
    name_key: bytes
    text: RegistrationText
    data_key: bytes
    request_id: bytes
    body_mac: bytes
    at_ms: int


def sealed_secret(
    master: bytes,
    user_id: int,
    kind: VaultKind.ValueType,
    secret: VaultSecret,
    family: bytes = b"",
) -> tuple[bytes, VaultRecord]:
    """For topic vault, placed by the user: the record's key, and a full state."""
    key = vault_key(user_id, kind, family)
    box = sealing.seal_secret(master, key, secret)
    return key, VaultRecord(key=VaultKey(user_id=user_id, kind=kind, family=family), box=box)


def identity(
    master: bytes, partitions: int, claim: Claim, password_hash: str
) -> tuple[NewRecord, NewRecord]:
    """For topic vault: what must be in the log before the first event that needs it."""
    partition = partition_of_owner(claim.user_id, partitions)

    def sealed(kind: VaultKind.ValueType, secret: VaultSecret) -> NewRecord:
        key, record = sealed_secret(master, claim.user_id, kind, secret)
        return NewRecord(key, record.SerializeToString(), partition)

    return (
        sealed(VAULT_KIND_DATA_KEY, VaultSecret(data_key=claim.data_key)),
        sealed(VAULT_KIND_PASSWORD, VaultSecret(password_hash=password_hash)),
    )


def name_claimed(claim: Claim) -> NamesEvent:
    """For topic names, key: the name key."""
    event = NameClaimed(
        name_key=claim.name_key,
        user_id=claim.user_id,
        at_ms=claim.at_ms,
        request_id=claim.request_id,
        body_mac=claim.body_mac,
        sealed=sealing.seal_text(claim.data_key, claim.user_id, claim.text),
    )
    return NamesEvent(claimed=event)


def user_registered(
    user_id: int,
    name_key: bytes,
    claim_number: int,
    text: RegistrationText,
    data_key: bytes,
    at_ms: int,
) -> UsersEvent:
    """For topic users, key: the user. `at_ms`: that of the claim, so that a repetition is equal."""
    event = UserRegistered(
        user_id=user_id,
        at_ms=at_ms,
        name_key=name_key,
        claim_number=claim_number,
        sealed=sealing.seal_text(data_key, user_id, text),
    )
    return UsersEvent(registered=event)
