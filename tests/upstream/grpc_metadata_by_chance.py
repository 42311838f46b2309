"""gRPC: between its soft and its hard limit on metadata a call is refused by chance."""

import asyncio
from collections import Counter
from typing import Any

import grpc

from tests.upstream.servers import ended

CALLS = 40


async def main() -> None:
    async def handle(request: bytes, _: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Say": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        say: Any = channel.unary_unary("/x.X/Say")
        for _ in range(CALLS):
            try:
                await say(b"", metadata=(("x", "y" * 12_000),))
                told["OK"] += 1
            except grpc.aio.AioRpcError as error:
                told[error.code().name] += 1
    print(f"{CALLS} times the same call: {dict(told)}")
    await server.stop(None)
    ended(len(told) > 1, "the same call is answered or refused by chance")


asyncio.run(main())
