"""grpc.aio's client: a deadline that ends a `write` is told as an INTERNAL error of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.upstream.servers import ended

CHUNK = b"x" * 100_000
TIMEOUT_S = 0.3
TRIES_MAX = 20


async def main() -> None:
    enough = asyncio.Event()

    async def handle(_requests: AsyncIterator[bytes], _: Any) -> bytes:
        await enough.wait()
        return b""

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Say": grpc.stream_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told: list[str] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        say: Any = channel.stream_unary("/x.X/Say")
        while "INTERNAL Internal error from Core" not in told and len(told) < TRIES_MAX:
            call = say(timeout=TIMEOUT_S)
            try:
                # Nobody reads, so a write waits for the window, until the deadline.
                while True:
                    await call.write(CHUNK)
            except grpc.aio.AioRpcError as error:
                told.append(f"{error.code().name} {error.details()}")
    print(f"a write at its deadline: {told}")
    enough.set()
    await server.stop(None)
    ended("INTERNAL Internal error from Core" in told, "the deadline of a write is INTERNAL")


asyncio.run(main())
