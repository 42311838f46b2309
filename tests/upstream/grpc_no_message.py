"""grpc.aio: a unary call that ends without a message is never answered."""

import asyncio
from typing import Any

import grpc

from tests.upstream.raw_http2 import PREFACE, answer_of, frame, headers
from tests.upstream.servers import ended

ANSWER_S, WAIT_S = 60, 1


async def main() -> None:
    async def handle(request: bytes, _: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Say": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # END_HEADERS, then an empty DATA with END_STREAM.
    call = PREFACE + frame(1, 4, headers("/x.X/Say")) + frame(0, 1, b"")
    with_message = PREFACE + frame(1, 4, headers("/x.X/Say")) + frame(0, 1, b"\0\0\0\0\1a")
    answered = await answer_of(port, with_message, ANSWER_S)
    silent = await answer_of(port, call, WAIT_S)
    print(f"with a message: {b'grpc-status' in answered}, without: {b'grpc-status' in silent}")
    await server.stop(None)
    ended(
        b"grpc-status" in answered and b"grpc-status" not in silent,
        "a call without a message has no answer",
    )


asyncio.run(main())
