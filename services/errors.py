"""The one table from errors to what a gRPC client gets: `docs/errors.md` explains each case.

Every status carries google.rpc.ErrorInfo (reason, domain `millrace`, the trace id); broken
fields come as BadRequest, and where waiting helps there is RetryInfo. Of errors that are ours
to mend the client gets the trace id and nothing else.
"""

from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from millrace import errors
from millrace.errors import MillraceError

DOMAIN = "millrace"
DETAILS_KEY = "grpc-status-details-bin"
# All metadata of an answer must stay below 8 KiB, or the client refuses it.
VIOLATIONS_SENT_MAX = 16
FIELD_CHARACTERS_MAX = 100
DESCRIPTION_CHARACTERS_MAX = 200
MESSAGE_CHARACTERS_MAX = 400

_Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class _Answer:
    """`message`: what the client reads instead of the error's own words, which may be a store's.

    `retry_after_s`: the default of RetryInfo; None where trying again changes nothing.
    """

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    retry_after_s: float | None = None


_OURS = _Answer(_Code.INTERNAL, "an error on our side, which is logged", "INTERNAL")

# The most special class counts; what is not in the table is ours to mend.
TABLE: dict[type[BaseException], _Answer] = {
    errors.NotFound: _Answer(_Code.NOT_FOUND),
    errors.AlreadyExists: _Answer(_Code.ALREADY_EXISTS),
    errors.InvalidRequest: _Answer(_Code.INVALID_ARGUMENT),
    errors.FailedPrecondition: _Answer(_Code.FAILED_PRECONDITION),
    errors.PermissionDenied: _Answer(_Code.PERMISSION_DENIED),
    errors.Unauthenticated: _Answer(_Code.UNAUTHENTICATED),
    errors.Exhausted: _Answer(_Code.RESOURCE_EXHAUSTED),
    errors.Unimplemented: _Answer(_Code.UNIMPLEMENTED),
    errors.StoreUnavailable: _Answer(
        _Code.UNAVAILABLE, "a store does not answer: try again", "STORE_UNAVAILABLE", 0.5
    ),
    errors.OutcomeUnknown: _Answer(
        _Code.UNAVAILABLE,
        "it is not known whether this was done: try again with the same request_id",
        "OUTCOME_UNKNOWN",
        0.5,
    ),
    TimeoutError: _Answer(
        _Code.DEADLINE_EXCEEDED,
        "no time left; a write may have been done: try again with the same request_id",
        "DEADLINE_EXCEEDED",
    ),
    MillraceError: _OURS,
    Exception: _OURS,
}


@dataclass(frozen=True, slots=True)
class Status:
    """What ends an RPC that failed. `expected`: no case for a traceback in the log."""

    code: grpc.StatusCode
    message: str
    details: bytes
    expected: bool

    @property
    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ((DETAILS_KEY, self.details),)


def status_of(error: Exception, trace: str) -> Status:
    while isinstance(error, ExceptionGroup):
        # Of a TaskGroup: the first that failed made the others stop.
        error = error.exceptions[0]
    answer = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    message, reason = answer.message, answer.reason
    if isinstance(error, MillraceError):
        message = message or error.message[:MESSAGE_CHARACTERS_MAX]
        reason = reason or error.reason
    if answer is _OURS:
        message = f"{message} under trace {trace}"
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"trace": trace})
    details: list[Message] = [info]
    if isinstance(error, errors.InvalidRequest) and error.violations:
        details.append(_bad_request(error))
    retry_after_s = answer.retry_after_s
    if isinstance(error, errors.Exhausted):
        retry_after_s = error.retry_after_s
    if retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=answer.code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Status(answer.code, message, status.SerializeToString(), answer is not _OURS)


def _bad_request(error: errors.InvalidRequest) -> Message:
    request: Message = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=broken.field[:FIELD_CHARACTERS_MAX],
                description=broken.description[:DESCRIPTION_CHARACTERS_MAX],
                reason=broken.rule,
            )
            for broken in error.violations[:VIOLATIONS_SENT_MAX]
        ]
    )
    return request
