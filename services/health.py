"""gRPC health and reflection of a server, so that any client finds its way unaided."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.rpc import Service


class Health:
    """`""` and each service: SERVING from `serve` until `leave`."""

    def __init__(self, server: grpc.aio.Server, services: list[Service]) -> None:
        self._names = ["", *(service.descriptor.full_name for service in services)]
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        shown = [*self._names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(shown, server)

    async def serve(self) -> None:
        for name in self._names:
            await self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def leave(self) -> None:
        """For good: load balancers send nothing new from now on."""
        await self._servicer.enter_graceful_shutdown()
