"""memcached on loopback, with meta commands and leases; what it holds dies with it."""

from __future__ import annotations

import os
import pwd

import aiomcache

from deploy.local import binaries
from deploy.local.child import Child, CommandFailed
from deploy.local.ports import LOOPBACK, Ports

NAME = "memcached"
_USUAL_PORT = 11211
_CONNECTIONS_MAX = 2048


def child(ports: Ports, *, memory_mb: int) -> tuple[Child, dict[str, object]]:
    """The child, and its keys in stack.json."""
    program = binaries.memcached()
    if program is None:
        raise CommandFailed("memcached 1.6.13 or later is missing: make install")
    port = ports.take(NAME, _USUAL_PORT)
    limits = ("-m", str(memory_mb), "-c", str(_CONNECTIONS_MAX), "-t", "2", "-U", "0")

    async def ready() -> None:
        client = aiomcache.Client(LOOPBACK, port, pool_size=1)
        try:
            await client.version()
        finally:
            await client.close()

    server = Child(
        name=NAME,
        argv=(str(program), "-l", LOOPBACK, "-p", str(port), *limits),
        ready=ready,
        # It refuses to run as root, and drops root in a way that would unbind it from us.
        user=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None,
    )
    return server, {"memcached_addresses": f"{LOOPBACK}:{port}"}
