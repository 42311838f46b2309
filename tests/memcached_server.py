"""Clients of memcached, and servers of a test's own, which it may stop and kill."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from prometheus_client import REGISTRY

from deploy.local import binaries
from deploy.local.status import StackStatus
from millrace.clock import SystemClock
from millrace.settings import Settings
from millrace.stores.cache_port import Cache
from millrace.stores.memcached import Memcached
from millrace.stores.memcached_memory import MemoryCache

PATIENT_MS = 5_000


@asynccontextmanager
async def opened(address: str, **changed: float) -> AsyncIterator[Memcached]:
    given = {"memcached_timeout_ms": PATIENT_MS, "memcached_pause_s": 0.0, **changed}
    cache = Memcached(address, Settings(**given), SystemClock())  # type: ignore[arg-type]
    try:
        yield cache
    finally:
        await cache.close()


@contextmanager
def own_memcached(port: int) -> Iterator[subprocess.Popen[bytes]]:
    program = binaries.memcached()
    assert program is not None
    server = subprocess.Popen(
        (str(program), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "16", "-t", "1"),
        user="nobody" if os.geteuid() == 0 else None,
    )
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(params=["memory", "memcached"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache(SystemClock())
        return
    stack: StackStatus = request.getfixturevalue("stack")
    async with opened(str(stack.settings["memcached_addresses"])) as real:
        yield real


def outcomes(name: str) -> float:
    return REGISTRY.get_sample_value("millrace_cache_calls_total", {"outcome": name}) or 0
