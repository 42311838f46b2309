"""Keys, sealed boxes, names, passwords and access tokens."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from millrace.auth import names, sealing
from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import Keys, add_signing_key, ensure_keys, load_keys
from millrace.auth.passwords import Passwords
from millrace.clock import ManualClock
from millrace.errors import Exhausted, FailedPrecondition, PoisonEvent, Unauthenticated
from millrace.settings import Settings
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.users_pb2 import ProfileText
from social.log.v1.vault_pb2 import VaultSecret

FAMILY = b"f" * 16


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return ensure_keys(tmp_path_factory.mktemp("keys"))


def tokens(keys: Keys, clock: ManualClock, **changed: int) -> AccessTokens:
    return AccessTokens(Settings(**changed), clock, keys)  # type: ignore[arg-type]


# --- keys -----------------------------------------------------------------------------------


def test_keys_are_created_once_by_many(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ensure_keys(folder), range(8)))
    assert len({one.master for one in found}) == 1
    assert {one.signer.kid for one in found} == {found[0].signer.kid}
    assert (folder / "master.key").stat().st_mode & 0o777 == 0o600
    assert not list(folder.glob(".new-*"))


def test_the_newest_key_signs_and_all_verify(tmp_path: Path) -> None:
    clock = ManualClock()
    old = ensure_keys(tmp_path, clock)
    token, _ = tokens(old, clock).issue(7, FAMILY)
    clock.advance(1)
    kid = add_signing_key(tmp_path, clock)
    new = load_keys(tmp_path)
    assert new.signer.kid == kid != old.signer.kid
    assert tokens(new, clock).verify(token).user_id == 7


def test_a_running_process_takes_up_a_newer_key(tmp_path: Path) -> None:
    clock = ManualClock()
    running = AccessTokens(
        Settings(), clock, ensure_keys(tmp_path, clock), lambda: load_keys(tmp_path)
    )
    clock.advance(10_000)
    add_signing_key(tmp_path, clock)
    token, _ = tokens(load_keys(tmp_path), clock).issue(7, FAMILY)
    assert running.verify(token).user_id == 7


def test_sub_keys_differ_and_last(keys: Keys) -> None:
    derived = [keys.name_mac, keys.body_mac]
    assert len({keys.master, *derived}) == 3
    assert Keys(keys.master, keys.signing).name_mac == keys.name_mac
    assert keys.master.hex() not in repr(keys)


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 16])
def test_a_broken_master_key_says_so(tmp_path: Path, content: str) -> None:
    ensure_keys(tmp_path)
    (tmp_path / "master.key").write_text(content)
    with pytest.raises(FailedPrecondition, match=r"master\.key is not 32 bytes"):
        load_keys(tmp_path)


@pytest.mark.parametrize("files", ["master.key", "signing-*.pem"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, files: str) -> None:
    ensure_keys(tmp_path)
    (file,) = tmp_path.glob(files)
    os.chmod(file, 0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        load_keys(tmp_path)


def test_missing_keys_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="create keys"):
        load_keys(tmp_path)


# --- sealed boxes -----------------------------------------------------------------------------


@given(st.text(max_size=50), st.integers(1, 2**63 - 1))
def test_text_opens_for_its_owner_with_his_key(bio: str, owner: int) -> None:
    key = sealing.new_data_key()
    text = ProfileText(bio=bio)
    sealed = sealing.seal_text(key, owner, text)
    assert ProfileText.FromString(sealing.open_text(key, sealed)) == text
    for other in (
        Sealed(owner_id=owner ^ 1, box=sealed.box),
        Sealed(owner_id=-owner, box=sealed.box),
        Sealed(owner_id=owner, box=sealed.box[:-1]),
        Sealed(owner_id=owner, box=b""),
    ):
        with pytest.raises(PoisonEvent):
            sealing.open_text(key, other)
    with pytest.raises(PoisonEvent) as refused:
        sealing.open_text(sealing.new_data_key(), sealed)
    assert refused.value.reason == "SEAL_BROKEN"


def test_a_secret_is_bound_to_its_place_in_the_vault(keys: Keys) -> None:
    secret = VaultSecret(data_key=b"k" * 32)
    box = sealing.seal_secret(keys.master, b"here", secret)
    assert sealing.open_secret(keys.master, b"here", box) == secret
    with pytest.raises(PoisonEvent):
        sealing.open_secret(keys.master, b"there", box)


def test_each_secret_has_a_key_of_its_own(keys: Keys) -> None:
    """Or the nonces of all sessions of all users would be drawn for one key."""
    box = sealing.seal_secret(keys.master, b"here", VaultSecret(data_key=b"k" * 32))
    with pytest.raises(PoisonEvent):
        sealing.unseal(keys.master, box, purpose=sealing.SECRET, owner=b"here")


def test_equal_texts_have_different_boxes() -> None:
    key = sealing.new_data_key()
    boxes = {sealing.seal_text(key, 1, ProfileText(bio="x")).box for _ in range(10)}
    assert len(boxes) == 10


# --- names ------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_normalising_twice_is_normalising_once(handle: str) -> None:
    assert names.normalise(names.normalise(handle)) == names.normalise(handle)


def test_case_does_not_make_another_name(keys: Keys) -> None:
    assert names.name_key(keys, "Ana.B") == names.name_key(keys, "aNA.b")
    assert names.name_key(keys, "ana.b") != names.name_key(keys, "ana_b")
    assert len(names.name_key(keys, "ana")) == 32


# --- passwords --------------------------------------------------------------------------------


def passwords(**changed: int) -> Passwords:
    fast = {"argon2_memory_kib": 64, "argon2_time_cost": 1, **changed}
    registry = CollectorRegistry()
    return Passwords(
        Settings(**fast),  # type: ignore[arg-type]
        Histogram("seconds", "of a test", registry=registry),
    )


async def test_only_the_password_matches() -> None:
    checks = passwords()
    hashed = await checks.hash("correct horse")
    assert hashed.startswith("$argon2id$")
    assert "correct" not in hashed
    assert await checks.matches(hashed, "correct horse")
    assert not await checks.matches(hashed, "Correct horse")
    assert not await checks.matches(None, "nobody's password")
    assert not await checks.matches("garbage", "correct horse")


async def test_letters_composed_otherwise_are_the_same_password() -> None:
    checks = passwords()
    assert await checks.matches(await checks.hash("caf\u00e9 olé"), "cafe\u0301 ole\u0301")


async def test_more_passwords_than_may_wait_are_refused() -> None:
    checks = passwords(password_checks_parallel_max=1, password_checks_waiting_max=2)
    tries = [checks.matches(None, "x") for _ in range(8)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Exhausted)]
    assert len(refused) == 5
    assert refused[0].reason == "PASSWORD_CHECKS_BUSY"
    assert not await checks.matches(None, "x")


# --- access tokens ----------------------------------------------------------------------------


def test_a_token_names_user_and_family(keys: Keys) -> None:
    clock = ManualClock()
    some = tokens(keys, clock)
    token, expires_in_s = some.issue(7, FAMILY)
    caller = some.verify(token)
    assert (caller.user_id, caller.family, expires_in_s) == (7, FAMILY, 900)
    assert some.verify(token) is caller


def test_a_remembered_token_expires_in_time(keys: Keys) -> None:
    clock = ManualClock()
    some = tokens(keys, clock, verified_token_ttl_s=10_000)
    token, _ = some.issue(7, FAMILY)
    some.verify(token)
    clock.advance(899_000)
    some.verify(token)
    clock.advance(1_000)
    with pytest.raises(Unauthenticated) as refused:
        some.verify(token)
    assert refused.value.reason == "TOKEN_EXPIRED"


def test_few_tokens_are_remembered(keys: Keys) -> None:
    some = tokens(keys, ManualClock(), verified_tokens_max=3)
    for user_id in range(1, 10):
        some.verify(some.issue(user_id, FAMILY)[0])
    assert len(some._verified) == 3


def forged(keys: Keys) -> list[str]:
    clock = ManualClock()
    good, _ = tokens(keys, clock).issue(7, FAMILY)
    head, body, signature = good.split(".")
    other_body = tokens(keys, clock).issue(8, FAMILY)[0].split(".")[1]
    private, kid = keys.signer.private, {"kid": keys.signer.kid}
    now_s = clock.now_ms() // 1000
    claims = {"sub": "7", "fam": FAMILY.hex(), "iat": now_s, "exp": now_s + 60, "aud": "millrace"}
    return [
        "",
        "x",
        "a.b.c",
        "\x00",
        "\ud800",
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.",
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "k" * 32, algorithm="HS256", headers=kid),
        jwt.encode(claims, private, algorithm="EdDSA"),
        jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": "0" * 16}),
        *(
            jwt.encode({**claims, **wrong}, private, algorithm="EdDSA", headers=kid)
            for wrong in ({"aud": "x"}, {"sub": "x"}, {"sub": "-7"}, {"fam": "zz"}, {"fam": "ab"})
        ),
    ]


def test_a_forged_or_garbled_token_is_invalid(keys: Keys) -> None:
    some = tokens(keys, ManualClock())
    for token in forged(keys):
        with pytest.raises(Unauthenticated) as refused:
            some.verify(token)
        assert refused.value.reason == "TOKEN_INVALID", token
