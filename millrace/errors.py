"""Every error that Millrace raises on purpose.

MillraceError
├── NotFound              it is not there, or the caller may not see it
├── AlreadyExists         the name is taken, or the request_id was used with another body
├── InvalidRequest        a field breaks its rule; carries the violations
├── FailedPrecondition    right in itself, wrong now (a token of another log, a deactivated user)
├── PermissionDenied      the caller sees it and may not change it
├── Unauthenticated       no token, or one that is forged, expired or revoked
├── Exhausted             a limit is reached; carries when to try again
├── Unimplemented         comes with a later issue
├── StoreUnavailable      a store or the log does not answer: retry, nothing is decided
│   ├── OutcomeUnknown    a write was sent and not acknowledged: retry with the same request_id
│   └── TablesGone        the feed store was emptied: who writes to it starts again
├── PositionMoved         another worker applied the batch: read the stored position again
├── PositionBehind        a view is further than the log: it stops, for an operator to look
├── PoisonEvent           this event can never be applied: dead letter
├── NewerEvent            of a kind that only a newer version knows: the processor stops
└── Bug                   an impossible state; nobody should catch it

Which gRPC code and reason each becomes: `services/errors.py`.
"""

from dataclasses import dataclass


class MillraceError(Exception):
    """Root. `reason` is the machine's word for it (UPPER_SNAKE_CASE), the message the human's.
    `trace`: of an error that a client got, the id to tell who runs the server.
    """

    reason = "INTERNAL"
    trace = ""

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class NotFound(MillraceError):
    reason = "NOT_FOUND"


class AlreadyExists(MillraceError):
    reason = "ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule. `field` is a path such as `items[3].caption`."""

    field: str
    rule: str
    description: str


class InvalidRequest(MillraceError):
    reason = "INVALID_FIELD"

    def __init__(
        self,
        message: str,
        violations: tuple[FieldViolation, ...] = (),
        *,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, reason=reason)
        self.violations = violations


class FailedPrecondition(MillraceError):
    reason = "FAILED_PRECONDITION"


class PermissionDenied(MillraceError):
    reason = "PERMISSION_DENIED"


class Unauthenticated(MillraceError):
    reason = "UNAUTHENTICATED"


class Exhausted(MillraceError):
    reason = "LIMIT_REACHED"

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class Unimplemented(MillraceError):
    reason = "UNIMPLEMENTED"


class StoreUnavailable(MillraceError):
    reason = "STORE_UNAVAILABLE"


class OutcomeUnknown(StoreUnavailable):
    reason = "OUTCOME_UNKNOWN"


class TablesGone(StoreUnavailable):
    """Reason as above: a client sees no difference."""


class PositionMoved(MillraceError):
    reason = "POSITION_MOVED"


class PositionBehind(MillraceError):
    reason = "POSITION_BEHIND"


class PoisonEvent(MillraceError):
    reason = "POISON_EVENT"


class NewerEvent(MillraceError):
    reason = "NEWER_EVENT"


class Bug(MillraceError):
    reason = "BUG"
