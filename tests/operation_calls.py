"""One call of an operation: over gRPC by names, with what came back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)
from tests.operations import Operation
from tests.serving import refusal_of

POSITION = "millrace-position"
DEADLINE_S = 60.0
_UNKNOWN = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
# grpc.aio's client (1.85) says so, instead of what the server answered, when its own writing meets
# the end of the call.
_LOST = "INTERNAL"
_PROTOS = (users_pb2, media_pb2, follows_pb2, likes_pb2, comments_pb2, saves_pb2, feed_pb2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: an answer, or "CODE REASON". `doubtful`: of an earlier try it is not known
    whether it was done.
    """

    answer: Any = None
    refused: str = ""
    position: str = ""
    retry_after_s: float = 0.0
    doubtful: bool = False

    @property
    def again(self) -> str:
        """Why to call again, as the contract says; empty when this is the server's last word."""
        if getattr(self.answer, "stale", False):
            return "stale"
        unknown = self.refused.startswith(_UNKNOWN) or self.refused == _LOST
        return self.refused if unknown else ""


async def call(
    channel: grpc.aio.Channel, operation: Operation, positions: Sequence[str]
) -> Outcome:
    method = method_of(operation)
    metadata = [(POSITION, position) for position in positions]
    if operation.bearer:
        metadata.append(("authorization", f"Bearer {operation.bearer}"))
    started = _started(channel, method, operation, metadata)
    try:
        if method.server_streaming:
            answer = _joined([message async for message in started])
        else:
            answer = await started
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        told = f"{refused.code.name} {refused.reason}".strip()
        return Outcome(refused=told, retry_after_s=refused.retry_after_s or 0.0)
    trailing = dict(await started.trailing_metadata() or ())
    return Outcome(answer, position=str(trailing.get(POSITION, "")))


def method_of(operation: Operation) -> MethodDescriptor:
    return _methods()[operation.method]


def no_answer(operation: Operation) -> Any:
    """An empty response of the RPC."""
    return GetMessageClass(method_of(operation).output_type)()


@cache
def _methods() -> dict[str, MethodDescriptor]:
    return {
        method.name: method
        for protos in _PROTOS
        for service in protos.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _started(
    channel: Any, method: MethodDescriptor, operation: Operation, metadata: list[tuple[str, str]]
) -> Any:
    shapes = {
        (False, False): channel.unary_unary, (False, True): channel.unary_stream,
        (True, False): channel.stream_unary, (True, True): channel.stream_stream,
    }  # fmt: skip
    rpc = shapes[method.client_streaming, method.server_streaming](
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = operation.requests if method.client_streaming else operation.requests[0]
    return rpc(
        iter(sent) if method.client_streaming else sent, metadata=metadata, timeout=DEADLINE_S
    )


def _joined(messages: list[Any]) -> Any:
    """A stream of answers as the model tells it."""
    if isinstance(messages[0], media_pb2.DownloadMediaResponse):
        header = messages[0].header
        data = b"".join(message.chunk for message in messages[1:])
        assert len(data) == header.size_bytes
        assert hashlib.sha256(data).digest() == header.sha256
        return header
    numbers = [message.acknowledged_sequence for message in messages]
    assert numbers == sorted(numbers), "an acknowledgement went back"
    return likes_pb2.RecordLikesResponse(
        acknowledged_sequence=numbers[-1],
        refused=[one for message in messages for one in message.refused],
    )
