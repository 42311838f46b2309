"""How a process of Millrace begins: with settings that can be read, and servers that answer.

CANNOT_GO_ON is the exit code of a process that has to be started again.
Not: what it does then, and how it ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from millrace.errors import InvalidRequest, StoreUnavailable
from millrace.settings import Settings, settings

CANNOT_GO_ON = 70
_PAUSE_S = 0.5

_T = TypeVar("_T")


def settings_or_exit() -> Settings:
    """The process's settings; one line and exit code 1 where they cannot be read."""
    try:
        return settings()
    except InvalidRequest as wrong:
        raise SystemExit(f"wrong settings: {wrong.message}") from None


async def until_answered(
    ask: Callable[[], Awaitable[_T]],
    waiting: Callable[[str], object] = lambda why: None,
    *,
    patience_s: float | None = None,
) -> _T:
    """What `ask` returns once its server answers. `waiting` is told why it did not, each time.

    Without `patience_s` it waits for ever: the supervisor sees that the process is not ready.
    Raises StoreUnavailable when patience is over; other errors of `ask` at once.
    """
    ends_s = None if patience_s is None else time.monotonic() + patience_s
    while True:
        try:
            return await ask()
        except StoreUnavailable as error:
            if ends_s is not None and time.monotonic() > ends_s:
                raise
            waiting(error.message)
        await asyncio.sleep(_PAUSE_S)
