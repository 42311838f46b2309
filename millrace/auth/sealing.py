"""Sealed boxes: AES-256-GCM, bound to whom and what they are for.

    personal text   under the user's data key; bound to the user
    vault secrets   under a key of their own, derived from the master key and the record key

Nonces are random, which is safe for 2^32 boxes a key. Every refresh of a session seals one, so
all under the master key itself would be past that in a few days.

A box is a nonce of 12 bytes, then ciphertext and tag. One that was sealed with another key, for
somebody else, or is damaged does not open: PoisonEvent with reason SEAL_BROKEN.
"""

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError, Message

from millrace.errors import PoisonEvent
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.vault_pb2 import VaultSecret

NONCE_BYTES = 12
TEXT = b"text"
SECRET = b"secret"


def new_data_key() -> bytes:
    return AESGCM.generate_key(bit_length=256)


def seal(key: bytes, plain: bytes, *, purpose: bytes, owner: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, purpose + b"\0" + owner)


def unseal(key: bytes, box: bytes, *, purpose: bytes, owner: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], purpose + b"\0" + owner)
    except (InvalidTag, ValueError) as error:
        raise PoisonEvent(
            "a sealed box does not open: it was sealed with another key or is damaged",
            reason="SEAL_BROKEN",
        ) from error


def seal_text(data_key: bytes, owner_id: int, text: Message) -> Sealed:
    """`text` is one of the *Text messages of the log."""
    plain = text.SerializeToString()
    box = seal(data_key, plain, purpose=TEXT, owner=owner_id.to_bytes(8, "big"))
    return Sealed(owner_id=owner_id, box=box)


def open_text(data_key: bytes, sealed: Sealed) -> bytes:
    """The bytes of the *Text message."""
    if sealed.owner_id < 0:
        raise PoisonEvent("a text of nobody", reason="SEAL_BROKEN")
    owner = sealed.owner_id.to_bytes(8, "big")
    return unseal(data_key, sealed.box, purpose=TEXT, owner=owner)


def seal_secret(master: bytes, vault_key: bytes, secret: VaultSecret) -> bytes:
    """`vault_key`: the record key in topic vault."""
    key = _secret_key(master, vault_key)
    return seal(key, secret.SerializeToString(), purpose=SECRET, owner=vault_key)


def open_secret(master: bytes, vault_key: bytes, box: bytes) -> VaultSecret:
    key = _secret_key(master, vault_key)
    try:
        return VaultSecret.FromString(unseal(key, box, purpose=SECRET, owner=vault_key))
    except DecodeError as error:
        raise PoisonEvent("a secret that no version explains", reason="SEAL_BROKEN") from error


def _secret_key(master: bytes, vault_key: bytes) -> bytes:
    return hmac.digest(master, b"millrace vault secret\0" + vault_key, "sha256")
