"""Where a call enters: its RPC's handler, or at once a refusal that costs next to nothing.

gRPC asks here before it has received the request, so that a refused call is never parsed, its
caller never looked up, no line logged. Measured: docs/overload.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import grpc

from millrace.errors import Exhausted
from millrace.observe import trace
from services.admission import Admission
from services.errors import DETAILS_KEY, status_of
from services.rpc import Rpc

# Generic for type checkers alone.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
HandlerOf: TypeAlias = Callable[[Metadata], _Handler]
_NO_TRACE = "0" * 32


class Door(NamedTuple):
    """`handler_of`: of one call by its metadata, which gRPC would make anew for whoever asks."""

    rpc: Rpc
    handler_of: HandlerOf


class Doorway(grpc.GenericRpcHandler):
    """The RPCs of a service, by path."""

    def __init__(self, doors: Mapping[str, Door], admission: Admission) -> None:
        self._doors = doors
        self._admission = admission
        # As a stream, whatever it refuses: of a stream gRPC does not wait for a request.
        self._refusal: _Handler = grpc.stream_stream_rpc_method_handler(self._refuse)
        overloaded = Exhausted("too many calls at once: try again", reason="OVERLOADED")
        status = status_of(overloaded, _NO_TRACE)
        self._code, self._message = status.code, status.message
        self._before, self._after = status.details.split(_NO_TRACE.encode())

    def service(self, details: grpc.HandlerCallDetails) -> "_Handler | None":
        door = self._doors.get(details.method)
        if door is None:
            return None
        if self._admission.admits(details.method):
            return door.handler_of(details.invocation_metadata or ())
        door.rpc.count(self._code.name)
        return self._refusal

    async def _refuse(self, _requests: object, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        trace_id = trace.begin(metadata.get(trace.TRACEPARENT, ""))
        context.set_code(self._code)
        context.set_details(self._message)
        context.set_trailing_metadata(
            ((DETAILS_KEY, self._before + trace_id.encode() + self._after),)
        )
