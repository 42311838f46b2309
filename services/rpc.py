"""The RPCs of a service as the frame runs them: found by name, checked at the start."""

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import Counter, Histogram

from millrace import validation
from millrace.errors import Bug, InvalidRequest, Unimplemented
from millrace.observe import metrics
from services.call import Call

OPEN_TO_ALL = frozenset(
    {
        "/social.v1.UsersService/Register",
        "/social.v1.UsersService/LogIn",
        "/social.v1.UsersService/RefreshToken",
    }
)
# Repeatable after its answer was lost, so it looks at the session by itself.
OPEN_TO_ENDED = frozenset({"/social.v1.UsersService/LogOut"})
OPEN_TO_DEACTIVATED = OPEN_TO_ENDED | {"/social.v1.UsersService/ReactivateUser"}
_CAPITAL = re.compile("(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer for a service of the protos. `deadlines_s`: by method, instead of
    `handler_deadline_s`; None for a stream that may stay open.
    """

    descriptor: ServiceDescriptor
    servicer: object
    deadlines_s: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rpc:
    """`handle` takes (call, request) or (call, requests). `read` makes a request of the bytes that
    were sent; raises InvalidRequest for what is no message, or breaks its rules.
    """

    name: str
    path: str
    takes_stream: bool
    gives_stream: bool
    response: type[Message]
    handle: Callable[[Call, Any], Any]
    read: Callable[[bytes], Message | None]
    open_to_all: bool
    open_to_ended: bool
    open_to_deactivated: bool
    deadline_s: float | None
    seconds: Histogram
    _ended: dict[str, Counter] = field(default_factory=dict)

    def count(self, code: str) -> None:
        """One more that ended so. Looking a metric up by its labels is dear, so once a code."""
        if (counter := self._ended.get(code)) is None:
            counter = self._ended[code] = metrics.RPCS.labels(self.path, code)
        counter.inc()


def rpcs_of(service: Service, deadline_s: float) -> Iterator[Rpc]:
    """Every RPC of the service; those without a method of the servicer refuse.

    Raises Bug for a public method that is no RPC, UnsupportedRule for a rule nobody can check.
    """
    names = {_snake(method.name) for method in service.descriptor.methods}
    for name, _ in inspect.getmembers(type(service.servicer), inspect.isfunction):
        if not name.startswith("_") and name not in names:
            raise Bug(f"{type(service.servicer).__name__}.{name} is no RPC")
    for method in service.descriptor.methods:
        path = f"/{service.descriptor.full_name}/{method.name}"
        handle = getattr(service.servicer, _snake(method.name), None)
        if handle is not None and inspect.isasyncgenfunction(handle) != method.server_streaming:
            raise Bug(f"{path}: what answers a stream yields, and nothing else does")
        yield Rpc(
            name=method.name,
            path=path,
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
            response=GetMessageClass(method.output_type),
            handle=handle or _refusal(method),
            read=_read(method) if handle else _unread,
            open_to_all=handle is None or path in OPEN_TO_ALL,
            open_to_ended=path in OPEN_TO_ENDED,
            open_to_deactivated=path in OPEN_TO_DEACTIVATED,
            deadline_s=service.deadlines_s.get(method.name, deadline_s),
            seconds=metrics.RPC_SECONDS.labels(path),
        )


def _snake(name: str) -> str:
    return _CAPITAL.sub("_", name).lower()


def _read(method: MethodDescriptor) -> Callable[[bytes], Message]:
    parse = GetMessageClass(method.input_type).FromString
    violations_of = validation.compile_rules(method.input_type)

    def read(sent: bytes) -> Message:
        try:
            request = parse(sent)
        except DecodeError:
            raise InvalidRequest(
                f"these bytes are no {method.input_type.name}, or a text in them is not UTF-8",
                reason="MESSAGE_MALFORMED",
            ) from None
        if violations := violations_of(request):
            first = violations[0]
            raise InvalidRequest(
                f"{first.field or method.input_type.name}: {first.description}",
                tuple(violations),
            )
        return request

    return read


def _unread(_sent: bytes) -> None:
    pass


def _refusal(method: MethodDescriptor) -> Callable[[Call, Any], Any]:
    # One error a call: an error that is raised again keeps the frames of all its former calls.
    def refused() -> Unimplemented:
        return Unimplemented(f"{method.name} comes with a later version")

    async def refuse(_call: Call, _request: object) -> Message:
        raise refused()

    async def refuse_stream(_call: Call, _request: object) -> AsyncIterator[Message]:
        raise refused()
        yield

    return refuse_stream if method.server_streaming else refuse
