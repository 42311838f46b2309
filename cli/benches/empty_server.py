"""The bare part of the rpc bench: a handler that answers and does nothing else.

    python -m cli.benches.empty_server ADDRESS

The same messages on the same stack (grpc.aio, uvloop); no interceptor, no rules, no log.
"""

import asyncio
import sys

import grpc
import uvloop

from social.v1 import likes_pb2, likes_pb2_grpc


class _Empty(likes_pb2_grpc.LikesServiceServicer):
    async def LikeMedia(  # noqa: N802  the contract's name
        self, request: likes_pb2.LikeMediaRequest, context: object
    ) -> likes_pb2.LikeMediaResponse:
        return likes_pb2.LikeMediaResponse()


async def _serve(address: str) -> None:
    server = grpc.aio.server()
    likes_pb2_grpc.add_LikesServiceServicer_to_server(_Empty(), server)
    server.add_insecure_port(address)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
