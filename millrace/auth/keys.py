"""The keys that make this installation itself: they are in files, not in any store.

    KEYS_DIR/master.key           32 bytes in hex, mode 0600; seals the vault, derives the rest
    KEYS_DIR/signing-<ms>-<kid>.pem   Ed25519 keys of access tokens, mode 0600; the newest signs,
                                      all verify

Losing master.key loses every password, session and personal text: back it up.

Raises FailedPrecondition with what to do, for missing or unusable files.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from millrace.clock import Clock, SystemClock
from millrace.errors import FailedPrecondition

KEY_BYTES = 32
MASTER_FILE = "master.key"
_LOCK_FILE = ".lock"
_SIGNING_FILES = "signing-*.pem"


@dataclass(frozen=True)
class SigningKey:
    """`kid` names it in a token's header: 16 hex digits of the public key's SHA-256."""

    kid: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey


@dataclass(frozen=True)
class Keys:
    """`signing` is never empty, oldest first."""

    master: bytes = field(repr=False)
    signing: tuple[SigningKey, ...] = field(repr=False)

    @property
    def signer(self) -> SigningKey:
        return self.signing[-1]

    @cached_property
    def name_mac(self) -> bytes:
        """Of names: their keys in the log."""
        return self._derived("name")

    @cached_property
    def body_mac(self) -> bytes:
        """Of request bodies that hold secrets, such as a registration's password."""
        return self._derived("request body")

    def _derived(self, purpose: str) -> bytes:
        info = b"millrace " + purpose.encode()
        return HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self.master)


def ensure_keys(keys_dir: str | Path, clock: Clock | None = None) -> Keys:
    """The keys of a folder; what is missing is created. Processes may call it at once."""
    folder = Path(keys_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / MASTER_FILE).exists():
            _write_new(folder / MASTER_FILE, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
        if not any(folder.glob(_SIGNING_FILES)):
            _add_signing_key(folder, clock or SystemClock())
    return load_keys(folder)


def load_keys(keys_dir: str | Path) -> Keys:
    folder = Path(keys_dir)
    files = sorted(folder.glob(_SIGNING_FILES))
    if not files:
        raise FailedPrecondition(f"no signing key in {folder}: create keys first")
    return Keys(_read_master(folder / MASTER_FILE), tuple(_read_signing(file) for file in files))


def add_signing_key(keys_dir: str | Path, clock: Clock | None = None) -> str:
    """One more signing key, which signs from now on; returns its kid.

    Running processes take it up when they see the first token that it signed, or start anew.
    """
    folder = Path(keys_dir)
    with _locked(folder):
        return _add_signing_key(folder, clock or SystemClock())


def _add_signing_key(folder: Path, clock: Clock) -> str:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    kid = _kid(private.public_key())
    _write_new(folder / f"signing-{clock.now_ms():015d}-{kid}.pem", pem)
    return kid


def _read_master(file: Path) -> bytes:
    try:
        text = _read_private(file)
    except OSError as error:
        raise FailedPrecondition(f"cannot read the master key {file}: create keys first") from error
    try:
        master = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        master = b""
    if len(master) != KEY_BYTES:
        raise FailedPrecondition(f"{file} is not {KEY_BYTES} bytes in hex")
    return master


def _read_signing(file: Path) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(_read_private(file), password=None)
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{file} is not a signing key") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise FailedPrecondition(f"{file} is not an Ed25519 key")
    public = private.public_key()
    return SigningKey(_kid(public), private, public)


def _read_private(file: Path) -> bytes:
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise FailedPrecondition(f"{file} is open to others (mode {mode:o}): chmod 600 it")
    return file.read_bytes()


def _kid(public: Ed25519PublicKey) -> str:
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return sha256(raw).hexdigest()[:16]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two processes that start at once must not each make keys that the other does not know."""
    with open(folder / _LOCK_FILE, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_new(file: Path, content: bytes) -> None:
    """Whole or not at all, whenever the machine stops; never readable by others."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
