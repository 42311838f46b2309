"""Warnings that say the same again and again, as while a store is away, do not fill the disk.

Of lines that are alike the first `LINES_MAX` of `WINDOW_S` are written; the next one that is
written afterwards says in `left_out` how many were not. Not: our own errors, which all are.
"""

import logging
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any

import structlog

LINES_MAX = 10
WINDOW_S = 10.0
_KINDS_MAX = 1_000


class Repeats:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # When the window of a kind ends, and how many lines came in it.
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def left_out(self, kind: Hashable) -> int | None:
        """How many lines of the kind were left out before this one, or None: leave it out, too."""
        ends_s, lines = self._kinds.get(kind, (0.0, 0))
        now_s = self._now()
        if now_s < ends_s:
            self._kinds[kind] = (ends_s, lines + 1)
            return 0 if lines < LINES_MAX else None
        if len(self._kinds) >= _KINDS_MAX:
            self._kinds.clear()
        self._kinds[kind] = (now_s + WINDOW_S, 1)
        return max(lines - LINES_MAX, 0)


class OfLibraries(logging.Filter):
    """For a handler: what `logging` writes, by the logger and the text before it is filled in."""

    def __init__(self, repeats: Repeats) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._repeats.left_out((record.name, record.levelno, str(record.msg)[:60]))
        if left_out:
            record.left_out = left_out
        return left_out is not None


def of_ours(repeats: Repeats) -> structlog.typing.Processor:
    """Our own warnings, by what is waited for."""

    def seldom(
        _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if method != "warning":
            return event
        names = ("source", "event", "view", "method")
        left_out = repeats.left_out(tuple(str(event.get(name, "")) for name in names))
        if left_out is None:
            raise structlog.DropEvent
        return {**event, "left_out": left_out} if left_out else event

    return seldom
