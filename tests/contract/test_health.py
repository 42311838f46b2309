"""Health and metrics of a process that is no gRPC server."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from millrace.errors import FailedPrecondition
from millrace.observe.health import start_health
from millrace.settings import Settings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_follows_readiness_and_metrics_are_served(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    ready = False
    health = await start_health(
        Settings(ports_file=str(file), health_interval_s=0.005), lambda: ready
    )
    try:
        ports = json.loads(file.read_text())
        assert (ports["health"], ports["metrics"]) == (health.port, health.metrics.port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['health']}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
            ready = True
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            async with asyncio.timeout(5):
                while (await watch.read()).status != SERVING:
                    pass
            watch.cancel()
        page = await asyncio.to_thread(_read, f"http://127.0.0.1:{ports['metrics']}/metrics")
        assert "millrace_rpc_seconds" in page
    finally:
        await health.stop()


async def test_a_taken_port_is_said_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=str(port)):
            await start_health(Settings(metrics_port=port), lambda: True)


def _read(url: str) -> str:
    with urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())
