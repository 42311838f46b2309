"""What happens around every handler, in this order:

admission (services/doorway.py), trace, metrics, limit of calls, rate by address, deadline,
request and rules, caller, rates and streams by user (services/limits.py), handler, errors → status.

A servicer is a class with a method for each RPC that it has, named in snake case; the others
answer UNIMPLEMENTED. `call` is a services.call.Call:

    async def like_media(self, call, request) -> LikeMediaResponse          unary
    async def upload_media(self, call, requests) -> UploadMediaResponse     client stream
    async def download_media(self, call, request)                           server stream, yields
    async def record_likes(self, call, requests)                            both, yields

Handlers raise millrace.errors; every item of a client's stream is checked before they see it.
"""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from millrace.deadlines import Deadlines
from millrace.errors import Exhausted
from millrace.log.position_token import PositionTokens
from millrace.observe import metrics, trace
from millrace.observe.logs import logger
from services.admission import Admission
from services.call import Call
from services.doorway import Door, Doorway, HandlerOf, Metadata
from services.errors import Status, status_of
from services.limits import Limits
from services.parts import Parts
from services.rpc import Rpc, Service, rpcs_of
from services.sessions import Sessions

POSITION = "millrace-position"
log = logger("services.frame")

_Context = grpc.aio.ServicerContext[Any, Any]
_Answered = Awaitable[Message | None]


class Frame:
    """Puts servicers into gRPC servers. One a process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._sessions = Sessions(parts)
        self._deadlines = Deadlines()
        self._limits = Limits(parts, self._deadlines)
        identity = parts.control.identity
        self._tokens = PositionTokens(
            identity.key("position token"), identity.log_id, parts.settings.verified_tokens_max
        )
        self._telling = trace.Telling(parts.settings.traces_told_per_s_max)
        self._running = 0
        self.admission = Admission(parts.settings, parts.clock)
        metrics.RPCS_RUNNING.set_function(lambda: self._running)

    def add_to(self, servers: Sequence[grpc.aio.Server], service: Service) -> None:
        """Raises Bug or UnsupportedRule for a servicer or a proto that cannot be served."""
        doors: dict[str, Door] = {}
        for rpc in rpcs_of(service, self._settings.handler_deadline_s):
            doors[rpc.path] = Door(rpc, self._streamed(rpc) if rpc.gives_stream else self._one(rpc))
        # Not as registered methods: grpc.aio (1.85) waits anew for each of them at every call.
        doorway = Doorway(doors, self.admission)
        for server in servers:
            server.add_generic_rpc_handlers((doorway,))

    # All handlers take a stream, since of a call with one request gRPC waits for that by itself,
    # for ever. Requests stay bytes until `_limited`, since gRPC tells a client which of our classes
    # could not read them.

    def _one(self, rpc: Rpc) -> HandlerOf:
        def handler(metadata: Metadata) -> Any:
            # Of the function, not of a bound method, in which gRPC would see no coroutine.
            return grpc.stream_unary_rpc_method_handler(
                partial(Frame._run, self, rpc, rpc.handle, metadata),
                response_serializer=rpc.response.SerializeToString,
            )

        return handler

    def _streamed(self, rpc: Rpc) -> HandlerOf:
        def handler(metadata: Metadata) -> Any:
            async def stream(sent: Any, context: _Context) -> Message | None:
                async def work(call: Call, request: Any) -> None:
                    async with aclosing(rpc.handle(call, request)) as items:
                        async for item in items:
                            await self._limits.written(context, item)

                return await self._run(rpc, work, metadata, sent, context)

            return grpc.stream_stream_rpc_method_handler(
                stream, response_serializer=rpc.response.SerializeToString
            )

        return handler

    async def _run(
        self,
        rpc: Rpc,
        work: Callable[[Call, Any], _Answered],
        sent_with: Metadata,
        sent: Any,
        context: _Context,
    ) -> Message | None:
        """Everything that turns into a status happens in here."""
        started_s = time.perf_counter()
        metadata: dict[str, Any] = dict(sent_with)
        metadata[POSITION] = [value for key, value in sent_with if key == POSITION]
        traceparent = metadata.get(trace.TRACEPARENT, "")
        trace_id = trace.begin(traceparent)
        told = self._telling.admits(traceparent)
        code = "CANCELLED"
        running = placed = False
        try:
            if not rpc.takes_stream:
                sent = await self._limits.request(context)
            running = True
            self._running += 1
            # A stream that stays open takes no place.
            if placed := not (rpc.takes_stream or rpc.gives_stream):
                self.admission.begin(rpc.path)
            answer = await self._limited(rpc, context, metadata, trace_id, told, sent, work)
            code = "OK"
        except Exception as error:  # noqa: BLE001  this is where every error becomes a status
            status = status_of(error, trace_id)
            code = status.code.name
            _tell(rpc, status, error)
            await context.abort(status.code, status.message, status.trailing_metadata)
        finally:
            self._running -= running
            took_s = time.perf_counter() - started_s
            if placed:
                self.admission.end(rpc.path, took_s, ok=code == "OK")
            rpc.seconds.observe(took_s)
            rpc.count(code)
            if told:
                log.info("answered", method=rpc.path, code=code)
        return answer

    async def _limited(
        self,
        rpc: Rpc,
        context: _Context,
        metadata: dict[str, Any],
        trace_id: str,
        told: bool,
        sent: Any,
        work: Callable[[Call, Any], _Answered],
    ) -> Message | None:
        if self._running > self._settings.grpc_calls_max:
            raise Exhausted("too many calls at once: try again", reason="OVERLOADED")
        address = self._limits.address_of(context.peer())
        now_s = self._deadlines.loop.time()
        until_s = now_s + _left_s(rpc, context)
        if until_s <= now_s:
            raise TimeoutError
        with self._deadlines.at(until_s):
            request: Any = None if rpc.takes_stream else rpc.read(sent)
            caller = None
            if not rpc.open_to_all:
                caller = await self._sessions.caller(
                    metadata.get("authorization", ""),
                    ended_too=rpc.open_to_ended,
                    deactivated_too=rpc.open_to_deactivated,
                )
                if rpc.takes_stream:
                    request = _each_read(rpc, self._limits.paced(sent, caller.user_id))
            token = self._tokens.read(metadata[POSITION])
            call = Call(self._parts, rpc.path, trace_id, caller, token, until_s, told=told)
            with self._limits.admitted(rpc, caller, address, request):
                answer = await work(call, request)
        if call.wrote:
            context.set_trailing_metadata(((POSITION, self._tokens.write(call.token)),))
        return answer


async def _each_read(rpc: Rpc, sent: AsyncIterator[bytes]) -> AsyncIterator[Message | None]:
    async for one in sent:
        yield rpc.read(one)


def _left_s(rpc: Rpc, context: _Context) -> float:
    """Until the RPC must end: the client's deadline or ours."""
    left: float | None = context.time_remaining()
    limits = [limit for limit in (left, rpc.deadline_s) if limit is not None]
    return min(limits, default=math.inf)


def _tell(rpc: Rpc, status: Status, error: Exception) -> None:
    if not status.expected:
        log.error("failed", method=rpc.path, exc_info=error)
    elif status.code is grpc.StatusCode.UNAVAILABLE:
        # Not a deadline: clients choose those, and could fill the log.
        log.warning("unavailable", method=rpc.path, why=str(error))
    else:
        log.debug("refused", method=rpc.path, code=status.code.name)
