"""Access tokens: short-lived JWT (EdDSA) that name a user and the session's family.

Claims:  sub (user id), fam (family, hex), iat, exp (seconds since 1970), aud; ses (the user's
         generation of sessions when the session began) and res (restricted: the user was
         deactivated) only where they are not 0 and false
Cost:    a signature check takes about 126 µs, so what was verified is remembered by its hash for
         `verified_token_ttl_s`, at most `verified_tokens_max`; the expiry is looked at each time
Raises:  Unauthenticated with reason TOKEN_INVALID or TOKEN_EXPIRED
Not:     whether the session still stands; that is in the vault
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt

from millrace.auth.keys import Keys, SigningKey
from millrace.clock import Clock
from millrace.errors import FailedPrecondition, Unauthenticated
from millrace.ids import UserId
from millrace.settings import Settings

AUDIENCE = "millrace"
FAMILY_BYTES = 16
_ALGORITHM = "EdDSA"
_REQUIRED = ["sub", "fam", "iat", "exp", "aud"]
# How often a token of an unknown key may make this process read the key folder again.
_RELOAD_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a valid access token names. `family` is 16 bytes. `restricted`: until a look at the user
    says otherwise, he is deactivated.
    """

    user_id: UserId
    family: bytes
    expires_ms: int
    sessions_generation: int = 0
    restricted: bool = False


class AccessTokens:
    """Issues and verifies. `reload` reads the keys again: a newer process may sign with a key
    that was added after this one started.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        keys: Keys,
        reload: Callable[[], Keys] | None = None,
    ) -> None:
        self._clock = clock
        self._ttl_s = settings.access_token_ttl_s
        self._remembered_max = settings.verified_tokens_max
        self._remembered_s = settings.verified_token_ttl_s
        self._signer: SigningKey = keys.signer
        self._public = {key.kid: key.public for key in keys.signing}
        self._reload = reload
        self._reloaded_s = clock.monotonic_s()
        # Oldest first, as dicts keep the order of insertion: token hash -> (until, caller).
        self._verified: dict[bytes, tuple[float, Caller]] = {}

    def issue(
        self,
        user_id: int,
        family: bytes,
        sessions_generation: int = 0,
        *,
        restricted: bool = False,
    ) -> tuple[str, int]:
        """A new token, and the seconds until it expires."""
        now_s = self._clock.now_ms() // 1000
        claims: dict[str, Any] = {
            "sub": str(user_id),
            "fam": family.hex(),
            "iat": now_s,
            "exp": now_s + self._ttl_s,
            "aud": AUDIENCE,
        }
        if sessions_generation:
            claims["ses"] = sessions_generation
        if restricted:
            claims["res"] = True
        headers = {"kid": self._signer.kid}
        return jwt.encode(claims, self._signer.private, _ALGORITHM, headers), self._ttl_s

    def verify(self, token: str) -> Caller:
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        now_s = self._clock.monotonic_s()
        remembered = self._verified.get(digest)
        if remembered is not None and remembered[0] > now_s:
            caller = remembered[1]
        else:
            caller = self._checked(token)
            self._remember(digest, now_s + self._remembered_s, caller)
        if caller.expires_ms <= self._clock.now_ms():
            raise Unauthenticated(
                "the access token has expired: call RefreshToken", reason="TOKEN_EXPIRED"
            )
        return caller

    def _checked(self, token: str) -> Caller:
        try:
            public = self._public_of(jwt.get_unverified_header(token).get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                public,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                # Our own clock decides about the expiry, on every call.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            caller = Caller(
                UserId(int(claims["sub"])),
                bytes.fromhex(claims["fam"]),
                int(claims["exp"]) * 1000,
                int(claims.get("ses", 0)),
                bool(claims.get("res", False)),
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _invalid() from error
        if caller.user_id <= 0 or len(caller.family) != FAMILY_BYTES:
            raise _invalid()
        return caller

    def _public_of(self, kid: object) -> Any:
        if kid not in self._public:
            self._read_keys_again()
        public = self._public.get(kid) if isinstance(kid, str) else None
        if public is None:
            raise _invalid()
        return public

    def _read_keys_again(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._reload is None or now_s - self._reloaded_s < _RELOAD_INTERVAL_S:
            return
        self._reloaded_s = now_s
        try:
            keys = self._reload()
        except FailedPrecondition:
            return  # The keys at hand still verify what they signed.
        self._signer = keys.signer
        self._public = {key.kid: key.public for key in keys.signing}

    def _remember(self, digest: bytes, until_s: float, caller: Caller) -> None:
        self._verified.pop(digest, None)
        while len(self._verified) >= self._remembered_max:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = (until_s, caller)


def _invalid() -> Unauthenticated:
    return Unauthenticated("the access token is not one of ours", reason="TOKEN_INVALID")
