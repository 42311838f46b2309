"""grpc.aio: each registered method makes every call of the server dearer."""

import asyncio
import time
from typing import Any

import grpc

from tests.upstream.servers import ended

METHODS, CALLS, TOGETHER, ROUNDS = 400, 500, 20, 3
DEARER_MIN = 1.2


async def cpu_s_of(registered: bool) -> float:
    """The least CPU time of several rounds of the same calls."""

    async def handle(request: bytes, _: Any) -> bytes:
        return request

    server: Any = grpc.aio.server()
    handlers: dict[str, Any] = {
        f"Say{number}": grpc.unary_unary_rpc_method_handler(handle) for number in range(METHODS)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
    if registered:
        server.add_registered_method_handlers("x.X", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    least = float("inf")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        say: Any = channel.unary_unary("/x.X/Say0")
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(CALLS // TOGETHER):
                await asyncio.gather(*(say(b"") for _ in range(TOGETHER)))
            least = min(least, time.process_time() - began)
    await server.stop(None)
    return least


async def main() -> None:
    generic, registered = await cpu_s_of(False), await cpu_s_of(True)
    print(
        f"{METHODS} methods: {generic / CALLS * 1e6:.0f} us a call as generic handlers, "
        f"{registered / CALLS * 1e6:.0f} us as registered methods"
    )
    ended(registered > DEARER_MIN * generic, "registered methods cost every call")


asyncio.run(main())
