"""One gRPC server process. The supervisor starts several; they share the port (SO_REUSEPORT).

Within a process several gRPC servers share it, too: each of them accepts one call in about five
turns of the event loop (grpc.aio 1.85), so one alone would hear nobody while it is busy.

SIGTERM or SIGINT: health says NOT_SERVING, running calls get `stop_grace_s`, then it ends.
Raises FailedPrecondition when the address cannot be listened on.
"""

import asyncio
import math
import signal
from collections.abc import Sequence

import grpc

from millrace.errors import FailedPrecondition
from millrace.observe.logs import logger
from millrace.settings import Settings
from services.frame import Frame
from services.health import Health
from services.knocking import Knocking
from services.parts import Parts
from services.rpc import Service

log = logger("services.server")

LOOPBACK = "127.0.0.1"
# From its soft limit on gRPC refuses metadata by chance, so the two limits are one here.
METADATA_BYTES_MAX = 16 * 1024
# Until a client has acknowledged our settings, gRPC takes 16 MiB of metadata a call from it.
SETTINGS_ACKNOWLEDGED_MS_MAX = 5_000


class Server:
    """`port` is where it listens, also when the settings ask for any (0)."""

    def __init__(self, parts: Parts, services: Sequence[Service]) -> None:
        self._settings = parts.settings
        self._servers = [
            grpc.aio.server(options=_options(parts.settings))
            for _ in range(parts.settings.grpc_acceptors)
        ]
        self.frame = Frame(parts)
        for service in services:
            self.frame.add_to(self._servers, service)
        self._health = Health(self._servers, list(services))
        host = parts.settings.grpc_address.rpartition(":")[0]
        self.port = _listen(self._servers[0], parts.settings.grpc_address)
        for server in self._servers[1:]:
            _listen(server, f"{host}:{self.port}")
        if parts.settings.health_port:
            # The shared port reaches any of the processes; this one only this.
            _listen(self._servers[0], f"{LOOPBACK}:{parts.settings.health_port}")
        self._knocking: Knocking | None = None

    async def start(self) -> None:
        doors = [f"{LOOPBACK}:{_listen(one, f'{LOOPBACK}:0')}" for one in self._servers]
        for server in self._servers:
            await server.start()
        await self._health.serve()
        if self._settings.admission_delay_ms:
            interval_s = self._settings.admission_interval_ms / 1000
            self._knocking = Knocking(self.frame.admission, doors, interval_s)
        log.info("serving", port=self.port)

    async def stop(self) -> None:
        await self._health.leave()
        if self._knocking is not None:
            await self._knocking.close()
        grace_s = self._settings.stop_grace_s
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        log.info("stopped")


def _listen(server: grpc.aio.Server, address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise FailedPrecondition(f"cannot listen on {address}: {error}") from error


async def asked_to_end() -> None:
    """Returns when this process is asked to end."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.grpc_message_bytes_max),
        ("grpc.max_send_message_length", settings.grpc_message_bytes_max),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.http2.settings_timeout", SETTINGS_ACKNOWLEDGED_MS_MAX),
        ("grpc.max_concurrent_streams", settings.grpc_streams_max),
        # A connection sticks to one process: an end of its life spreads clients over all of them.
        # What is under way then may end as usual, the longest of which is an upload.
        ("grpc.max_connection_age_ms", settings.grpc_connection_age_max_s * 1000),
        ("grpc.max_connection_age_grace_ms", settings.upload_deadline_s * 1000),
        ("grpc.max_connection_idle_ms", settings.grpc_idle_max_s * 1000),
        (
            "grpc.max_allowed_incoming_connections",
            math.ceil(settings.grpc_connections_max / settings.grpc_acceptors),
        ),
        ("grpc.server_handshake_timeout_ms", int(settings.grpc_handshake_s * 1000)),
        ("grpc.keepalive_time_ms", settings.grpc_keepalive_s * 1000),
        # Also where no call is under way: whoever left without a word keeps no connection.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
