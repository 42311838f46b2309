"""Passwords: argon2id in a few threads, since one computation takes tens of milliseconds.

Bound:   `password_checks_parallel_max` at once, `password_checks_waiting_max` in line; what is
         above that is Exhausted with reason PASSWORD_CHECKS_BUSY
Memory:  `argon2_memory_kib` each
Not:     where hashes are kept (vault), how often one may try (limits of rates)
"""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import Histogram

from millrace.errors import Exhausted
from millrace.settings import Settings

_T = TypeVar("_T")
_RETRY_AFTER_S = 1.0


class Passwords:
    """`seconds` observes what a computation takes, its wait included."""

    def __init__(self, settings: Settings, seconds: Histogram) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=1,
        )
        self._threads = ThreadPoolExecutor(
            settings.password_checks_parallel_max, thread_name_prefix="password"
        )
        self._pending_max = (
            settings.password_checks_parallel_max + settings.password_checks_waiting_max
        )
        self._pending = 0
        self._seconds = seconds
        # What a password of nobody is compared with, so that it takes as long as anybody's.
        self._nobodys = self._hasher.hash("nobody's password")

    async def hash(self, password: str) -> str:
        """The PHC form; every call gives another one."""
        return await self._run(self._hasher.hash, _prepared(password))

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """None for an unknown user: False, after the same time."""
        return await self._run(self._matches, password_hash, _prepared(password))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None

    async def _run(self, work: Callable[..., _T], *arguments: object) -> _T:
        if self._pending >= self._pending_max:
            raise Exhausted(
                "too many passwords are being checked: try again",
                retry_after_s=_RETRY_AFTER_S,
                reason="PASSWORD_CHECKS_BUSY",
            )
        self._pending += 1
        try:
            with self._seconds.time():
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._pending -= 1


def _prepared(password: str) -> str:
    """Keyboards compose letters differently: one form for all (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
