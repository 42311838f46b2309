"""gRPC: until a client acknowledges the settings, the limit on metadata is 16 MiB, not ours."""

import asyncio
from typing import Any

import grpc

from tests.upstream.raw_http2 import PREFACE, answer_of, frame, headers, pieces
from tests.upstream.servers import ended

LIMIT = 16 * 1024
SENT = 1_000_000
WAIT_S = 60
# On a busy machine the server's own SETTINGS take hold in time for one connection in six.
TRIES_MAX = 20


async def main() -> None:
    seen: list[int] = []

    async def handle(request: bytes, context: Any) -> bytes:
        seen.append(sum(len(value) for _, value in context.invocation_metadata()))
        return request

    options = [("grpc.max_metadata_size", LIMIT), ("grpc.absolute_max_metadata_size", LIMIT)]
    server = grpc.aio.server(options=options)
    handlers: dict[str, Any] = {"Say": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    block = headers("/x.X/Say", {"x": "y" * SENT})
    tries = 0
    while not seen and tries < TRIES_MAX:
        tries += 1
        await answer_of(port, PREFACE + pieces(block) + frame(0, 1, b"\0\0\0\0\1a"), WAIT_S)
    print(f"a limit of {LIMIT} bytes, and a handler that was called with {seen} at try {tries}")
    await server.stop(None)
    ended(bool(seen) and seen[0] > LIMIT, "metadata above the limit before the acknowledgement")


asyncio.run(main())
