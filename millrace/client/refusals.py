"""From a call's status to the error of `millrace/errors.py` that the server meant."""

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2

from millrace import errors

_DETAILS = "grpc-status-details-bin"
UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# What gRPC itself says when a connection ends under a call, as the moment has it.
_BREAKS = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
)
# Such a refusal says nothing about an earlier attempt whose outcome is not known.
_SAYS_NOTHING = (
    *UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    *_BREAKS,
)
_ERRORS: dict[grpc.StatusCode, type[errors.MillraceError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.UNAVAILABLE: errors.StoreUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.StoreUnavailable,
    grpc.StatusCode.CANCELLED: errors.StoreUnavailable,
}


@dataclass(frozen=True, slots=True)
class Details:
    """`reason` is None, `retry_after_s` too, where the server gave none; `trace` is empty then."""

    reason: str | None = None
    retry_after_s: float | None = None
    trace: str = ""
    violations: tuple[errors.FieldViolation, ...] = ()


def may_be_done(code: grpc.StatusCode) -> bool:
    """Whether a write that was refused so may have been done."""
    return code in UNKNOWN or code in _BREAKS


def is_passing(code: grpc.StatusCode, details: Details) -> bool:
    """Whether another attempt may do better. An INTERNAL of our servers has a reason."""
    return code in UNKNOWN or (code in _BREAKS and details.reason is None)


def details_of(refusal: grpc.aio.AioRpcError) -> Details:
    reason, retry_after_s, trace = None, None, ""
    violations: tuple[errors.FieldViolation, ...] = ()
    for key, value in refusal.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        broken = error_details_pb2.BadRequest()
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Unpack(info):
                reason, trace = str(info.reason), str(info.metadata.get("trace", ""))
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMicroseconds() / 1e6
            elif detail.Unpack(broken):
                violations = tuple(
                    errors.FieldViolation(one.field, one.reason, one.description)
                    for one in broken.field_violations
                )
    return Details(reason, retry_after_s, trace, violations)


def error_of(refusal: grpc.aio.AioRpcError, *, unknown: bool = False) -> errors.MillraceError:
    """`unknown`: of a write, some attempt of which may have been done."""
    kind = _ERRORS.get(refusal.code(), errors.MillraceError)
    if unknown and refusal.code() in _SAYS_NOTHING:
        kind = errors.OutcomeUnknown
    details = details_of(refusal)
    error = kind(
        f"{refusal.code().name}: {refusal.details() or 'no message'}", reason=details.reason
    )
    error.trace = details.trace
    if isinstance(error, errors.InvalidRequest):
        error.violations = details.violations
    if isinstance(error, errors.Exhausted) and details.retry_after_s is not None:
        error.retry_after_s = details.retry_after_s
    return error
