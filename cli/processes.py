"""Millrace's own processes: the one place that says what runs, and when it counts as ready.

`up`, `demo` and the system tests start these as children of a LocalStack, whose servers may be
its own or somebody else's.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.child import Child
from deploy.local.ports import LOOPBACK, Ports

ROOT = Path(__file__).resolve().parents[1]
GRPC_PORT = 50051
_HEALTH_PORT = 50061
_METRICS_PORT = 9464
_HEALTH_TIMEOUT_S = 2.0
_READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """`python -m module`. `worker` numbers those that share a module, and their ports."""

    name: str
    module: str
    worker: int = 0


# The gRPC servers share one port (SO_REUSEPORT).
SERVICES = (
    OwnProcess("grpc-0", "services", 0),
    OwnProcess("grpc-1", "services", 1),
)
STREAMS = (
    OwnProcess("projector", "streams.projector"),
    OwnProcess("fanout", "streams.fanout"),
    OwnProcess("sweeper", "streams.sweeper"),
)
OWN = (*SERVICES, *STREAMS)


@dataclass(frozen=True, slots=True)
class Started:
    """The children, and where they can be reached. Ports by the process's name."""

    children: tuple[Child, ...]
    grpc_address: str
    health_ports: Mapping[str, int]
    metrics_ports: Mapping[str, int]


def own_children(
    ports: Ports, environment: Mapping[str, str], *, depends_on: tuple[str, ...] = ()
) -> Started:
    """`environment` says which installation they are (`MILLRACE_STACK_FILE`, …).

    The gRPC servers start last: whoever gets an answer may rely on the rest.
    """
    address = f"{LOOPBACK}:{ports.take('grpc', GRPC_PORT)}"
    health = {p.name: ports.take(f"{p.name}.health", _HEALTH_PORT + i) for i, p in enumerate(OWN)}
    metrics = {
        p.name: ports.take(f"{p.name}.metrics", _METRICS_PORT + i) for i, p in enumerate(OWN)
    }
    children = tuple(
        Child(
            name=process.name,
            argv=(sys.executable, "-m", process.module),
            ready=lambda port=health[process.name]: healthy(port),  # type: ignore[misc]
            env={
                **environment,
                "MILLRACE_GRPC_ADDRESS": address,
                "MILLRACE_HEALTH_PORT": str(health[process.name]),
                "MILLRACE_METRICS_PORT": str(metrics[process.name]),
                "MILLRACE_WORKER": str(process.worker),
            },
            cwd=ROOT,
            depends_on=depends_on,
            ready_timeout_s=_READY_TIMEOUT_S,
        )
        for process in OWN
    )
    return Started(children, address, health, metrics)


async def healthy(port: int) -> None:
    """Raises unless the process behind this health port says SERVING."""
    async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        answer = await stub.Check(request, timeout=_HEALTH_TIMEOUT_S)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise ConnectionError(f"health: {answer.status}")
