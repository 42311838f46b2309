"""Handlers that are not ours (health, reflection), so that they refuse in our words.

By themselves they answer bytes that are no message, and methods that they lack, with the name of a
Python class, and grpc.aio logs a traceback for each such call of anybody.
"""

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from millrace.errors import InvalidRequest, MillraceError, Unimplemented
from millrace.observe import trace
from services.errors import status_of

_NO_MESSAGE = object()


class GenericOnly:
    """What generated code takes for a server. It leaves out registered methods, which cost every
    call of every service (see services/frame.py).
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers([_InOurWords(one) for one in handlers])

    def add_registered_method_handlers(self, service_name: str, method_handlers: object) -> None:
        pass


class _InOurWords(grpc.GenericRpcHandler):
    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler: Any = self._inner.service(handler_call_details)
        if handler is None:
            return None
        read = handler.request_deserializer

        def read_or_not(sent: bytes) -> object:
            try:
                return read(sent)
            except DecodeError:
                return _NO_MESSAGE

        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        (kind,) = (kind for kind in kinds if getattr(handler, kind) is not None)
        behaviour = _behaviour(getattr(handler, kind), streamed=handler.request_streaming)
        return handler._replace(request_deserializer=read_or_not, **{kind: behaviour})


def _behaviour(inner: Any, *, streamed: bool) -> Any:
    def checked(request: Any, context: Any) -> Any:
        return _each(request, context) if streamed else request

    async def answer(request: Any, context: Any) -> Any:
        if request is _NO_MESSAGE:
            await _refuse_bytes(context)
        return await inner(checked(request, context), context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        if request is _NO_MESSAGE:
            await _refuse_bytes(context)
        async for one in inner(checked(request, context), context):
            yield one

    async def lack(_request: Any, context: Any) -> None:
        await _refuse(context, Unimplemented("this server has no such method"))

    if inspect.isasyncgenfunction(inner):
        return stream
    return answer if inspect.iscoroutinefunction(inner) else lack


async def _each(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        if request is _NO_MESSAGE:
            await _refuse_bytes(context)
        yield request


async def _refuse_bytes(context: Any) -> NoReturn:
    await _refuse(context, InvalidRequest("these bytes are no message", reason="MESSAGE_MALFORMED"))


async def _refuse(context: Any, error: MillraceError) -> NoReturn:
    status = status_of(error, trace.begin(""))
    await context.abort(status.code, status.message, status.trailing_metadata)
    raise error  # abort has raised before
