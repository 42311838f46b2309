"""What PostgreSQL's and the driver's errors mean here.

StoreUnavailable  connection lost or refused, time-out, shutdown, no room, read-only, a database
│                 that is not there or still empty (lost, and being made anew): try again
└── Conflict      deadlock or serialization failure: the same transaction may pass next time
PoisonEvent       a value or a constraint refuses: the same batch will never pass
FailedPrecondition  a column is missing: the schema is older than the code

No message holds a value: it may be personal text.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from millrace.errors import (
    FailedPrecondition,
    InvalidRequest,
    MillraceError,
    PoisonEvent,
    StoreUnavailable,
)

_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_REFUSALS = (
    asyncpg.DataError,
    asyncpg.exceptions._base.DataError,
    asyncpg.IntegrityConstraintViolationError,
)
_MISSING = (asyncpg.UndefinedColumnError,)
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalClientError,
)


class Conflict(StoreUnavailable):
    """Two transactions stood in each other's way; this one was undone."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what the table above says instead of the driver's errors."""
    try:
        yield
    except MillraceError:
        raise
    except Exception as error:
        meant = _meaning(doing, error)
        if meant is None:
            raise
        raise meant from error


@contextmanager
def reading(doing: str) -> Iterator[None]:
    """The same for reads, where a value that no column can hold is the caller's mistake."""
    try:
        with translated(doing):
            yield
    except PoisonEvent as error:
        raise InvalidRequest("a key that no row can have") from error


def _meaning(doing: str, error: Exception) -> MillraceError | None:
    said = f"{doing}: {type(error).__name__}"
    if isinstance(error, _CONFLICTS):
        return Conflict(said)
    if isinstance(error, _REFUSALS):
        return PoisonEvent(said)
    if isinstance(error, _MISSING):
        return FailedPrecondition(f"{said}: run `millrace migrate`")
    if isinstance(error, asyncpg.UndefinedTableError):
        return StoreUnavailable(f"{said}: is the database new? run `millrace migrate`")
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable(f"PostgreSQL does not answer: {said}")
    return None
