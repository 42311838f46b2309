"""Logs: one JSON object a line on standard error, with the trace of the task that wrote it.

    log = logger("services.users")
    log.info("registered", user_id=7)

Never: passwords, tokens, keys, personal text, whole requests. Values under the names in HIDDEN
are replaced, and of a protobuf message only the type is shown, so that a slip does not leak.
"""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from google.protobuf.message import Message

from millrace.observe import trace
from millrace.observe.repeats import OfLibraries, Repeats, of_ours

HIDDEN = frozenset(
    {
        "access_token", "authorization", "bio", "body", "caption", "comment", "display_name",
        "handle", "key", "metadata", "password", "refresh_token", "request", "secret", "text",
        "token",
    }
)  # fmt: skip
_Event = MutableMapping[str, Any]
_process = ""


def configure(process: str, level: str = "info", now: Callable[[], float] = time.monotonic) -> None:
    """Once a process, at its start. `process` names it in each line.

    What is written by `logging` comes out in the same form: ours from `level` up, that of
    libraries from warnings up. Of warnings that repeat some are left out: `repeats`.
    """
    global _process
    _process = process
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    repeats = Repeats(now)
    structlog.configure(processors=[of_ours(repeats), *_SHARED, _RENDER])
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OfLibraries(repeats))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                _sourced,
                structlog.stdlib.ExtraAdder(),
                *_SHARED,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _RENDER],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    for house in ("millrace", "services", "streams", "cli", "deploy"):
        logging.getLogger(house).setLevel(number)


def logger(name: str) -> Any:
    """A logger whose lines carry `source: name`. May be made before `configure` is called."""
    return structlog.get_logger(source=name)


def hide(_logger: object, _method: str, event: _Event) -> _Event:
    """Replaces what must not be in a log by what may."""
    for name, value in event.items():
        if name in HIDDEN:
            event[name] = "(hidden)"
        elif isinstance(value, Message):
            event[name] = f"({value.DESCRIPTOR.full_name})"
        elif isinstance(value, bytes):
            event[name] = f"({len(value)} bytes)"
    return event


def _traced(_logger: object, _method: str, event: _Event) -> _Event:
    if current := trace.current():
        event.setdefault("trace", current)
    return event


def _sourced(_logger: object, _method: str, event: _Event) -> _Event:
    event["source"] = event["_record"].name
    return event


def _named(_logger: object, _method: str, event: _Event) -> _Event:
    event["process"] = _process
    return event


class _StandardError:
    """Whatever standard error is at the moment of writing."""

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = exception = msg


_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _named,
    _traced,
    hide,
    structlog.processors.format_exc_info,
)
_RENDER = structlog.processors.JSONRenderer()

# From the first import on: structlog's own default prints local variables, tokens among them.
structlog.configure(
    processors=[*_SHARED, _RENDER],
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    logger_factory=lambda *_: _StandardError(),
)
