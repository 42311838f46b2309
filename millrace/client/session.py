"""One logged-in user on the client's side: his tokens, what his writes answered, whose turn it is.

Positions: a write that was sent with the positions S and answered t leaves (positions - S) + t.
Each position that is kept was answered after the newest of the writes that went with it began, so
there are never more than writes at once, at most `WRITES_MAX`: as many as a call may carry.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from millrace.errors import StoreUnavailable

POSITION_METADATA = "millrace-position"
WRITES_MAX = 16
_REFRESH_BEFORE_S = 30.0

# What a write sets: its kind, and whose or which.
Edge = tuple[str, int]


class Tokens(Protocol):
    """What Register, LogIn, RefreshToken and ChangePassword answer."""

    access_token: str
    refresh_token: str
    expires_in_s: int


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass(slots=True)
class Session:
    """`deactivated`: only reactivate_user and log_out are open to it."""

    user_id: int = 0
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    expires_s: float = 0.0  # monotonic
    deactivated: bool = False
    positions: tuple[str, ...] = ()
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _writes: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(WRITES_MAX), repr=False
    )
    _turns: dict[Edge, _Turn] = field(default_factory=dict, repr=False)

    def take_tokens(self, tokens: Tokens) -> None:
        self.access_token = tokens.access_token
        self.refresh_token = tokens.refresh_token
        self.expires_s = time.monotonic() + tokens.expires_in_s

    @property
    def expires_soon(self) -> bool:
        return time.monotonic() >= self.expires_s - _REFRESH_BEFORE_S

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What its calls carry."""
        bearer = (("authorization", f"Bearer {self.access_token}"),) if self.access_token else ()
        return (*bearer, *((POSITION_METADATA, position) for position in self.positions))

    def wrote(self, sent: tuple[str, ...], position: str) -> None:
        """A write that carried `sent` answered `position`, which covers them."""
        kept = [one for one in self.positions if one not in sent and one != position]
        self.positions = (*kept, position)

    def forget_positions(self) -> None:
        """After POSITION_OF_ANOTHER_LOG or POSITION_FROM_THE_FUTURE: the log is another one, or
        was restored to an earlier state.
        """
        self.positions = ()

    @asynccontextmanager
    async def writing(self, edge: Edge | None, until_s: float) -> AsyncIterator[None]:
        """Its turn: of writes on one edge one at a time, in the order of the calls; of all at most
        `WRITES_MAX`. Raises StoreUnavailable when that is not before `until_s`, by the loop's
        clock: then nothing was sent.
        """
        turn = self._turns.setdefault(edge, _Turn()) if edge else _Turn()
        turn.waiting += 1
        held = []
        try:
            for one in (turn.lock, self._writes):
                await _acquired(one, until_s)
                held.append(one)
            yield
        finally:
            for one in reversed(held):
                one.release()
            turn.waiting -= 1
            if edge and not turn.waiting:
                del self._turns[edge]


async def _acquired(one: asyncio.Lock | asyncio.Semaphore, until_s: float) -> None:
    try:
        async with asyncio.timeout_at(until_s):
            await one.acquire()
    except TimeoutError:
        raise StoreUnavailable(
            "not sent: the session's writes before this one are not done", reason="NOT_SENT"
        ) from None


async def take_position(session: Session | None, sent: tuple[str, ...], call: Any) -> None:
    """From a call that ended well."""
    if session is None:
        return
    for key, value in await call.trailing_metadata() or ():
        if key == POSITION_METADATA:
            session.wrote(sent, value)
