"""grpcio-reflection: does not find a single RPC by its name, only its service."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # noqa: F401  so that its descriptors are there
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from tests.upstream.servers import ended

SERVICE = "grpc.health.v1.Health"


async def main() -> None:
    server = grpc.aio.server()
    reflection.enable_server_reflection([SERVICE], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = {}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        untyped: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        for symbol in (SERVICE, f"{SERVICE}.Check"):
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
            async for answer in stub.ServerReflectionInfo(iter((request,))):
                found[symbol] = answer.WhichOneof("message_response")
    print(found)
    await server.stop(None)
    ended(
        found[SERVICE] == "file_descriptor_response"
        and found[f"{SERVICE}.Check"] == "error_response",
        "an RPC is no symbol",
    )


asyncio.run(main())
