"""gRPC health and Prometheus metrics of a process, also of one that serves no RPCs itself.

    /metrics over HTTP on `metrics_port`, grpc.health.v1 on `health_port`; 0 = a free one.
    Where `ports_file` is set, the ports are written to it as JSON: {"metrics": …, "health": …}

Not: what readiness means; the process says so by a function.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server

from millrace.errors import FailedPrecondition
from millrace.observe import metrics  # noqa: F401  a process shows all of them
from millrace.settings import Settings

LOOPBACK = "127.0.0.1"
_STATUS = health_pb2.HealthCheckResponse


class Metrics:
    """The HTTP endpoint of this process's metrics, served by a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._server: WSGIServer
        self._thread: Thread
        try:
            self._server, self._thread = start_http_server(settings.metrics_port, LOOPBACK)
        except OSError as error:
            raise FailedPrecondition(
                f"cannot serve metrics on port {settings.metrics_port}: {error.strerror}"
            ) from error
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Health:
    """Health of a process that is no gRPC server, and its metrics. Made by `start_health`."""

    def __init__(self, settings: Settings, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._interval_s = settings.health_interval_s
        self._servicer = health.aio.HealthServicer()
        self._server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        try:
            self.port = self._server.add_insecure_port(f"{LOOPBACK}:{settings.health_port}")
        except RuntimeError as error:
            raise FailedPrecondition(
                f"cannot serve health on port {settings.health_port}"
            ) from error
        self.metrics = Metrics(settings)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._look()
        await self._server.start()
        self._watch = asyncio.create_task(self._look_again())

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._servicer.enter_graceful_shutdown()
        await self._server.stop(grace=0)
        await asyncio.to_thread(self.metrics.close)

    async def _look(self) -> None:
        status = _STATUS.SERVING if self._ready() else _STATUS.NOT_SERVING
        await self._servicer.set("", status)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._look()


async def start_health(settings: Settings, ready: Callable[[], bool]) -> Health:
    """`ready` is asked every `health_interval_s`. Raises FailedPrecondition for a taken port."""
    health_of_process = Health(settings, ready)
    await health_of_process.start()
    write_ports(
        settings, {"metrics": health_of_process.metrics.port, "health": health_of_process.port}
    )
    return health_of_process


def write_ports(settings: Settings, ports: dict[str, int]) -> None:
    """Whole or not at all, so that a reader never sees half a file."""
    if not settings.ports_file:
        return
    file = Path(settings.ports_file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"pid": os.getpid(), **ports}))
    temporary.replace(file)
