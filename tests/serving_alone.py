"""The product on the memory twins in a process of its own, so that its memory can be watched.

async with serving_alone(stream_idle_max_s=1.0) as server:
    server.address, server.people["ana"], server.process.memory_info().rss
"""

import asyncio
import io
import json
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop
from PIL import Image

from tests.error_cases.media import upload
from tests.serving import serving

HANDLES = ("ana", "ben")
_START_S = 60.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Alone:
    """`tokens`: an access token by handle; `media_id`: an item of ana's."""

    process: psutil.Process
    address: str
    tokens: dict[str, str]
    media_id: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def memory_mib(self) -> float:
        return float(self.process.memory_info().rss) / (1 << 20)

    @property
    def descriptors(self) -> int:
        return int(self.process.num_fds())


@asynccontextmanager
async def serving_alone(**changed: object) -> AsyncIterator[Alone]:
    """`changed`: settings, with one acceptor and no admission; but for `most`, the limits of
    rates by their names in `Rates`, which hold from when the people are registered.
    """
    # Admission refuses by how busy the machine is, which no test may depend on.
    changed = {"grpc_acceptors": 1, "admission_delay_ms": 0, **changed}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.serving_alone", json.dumps(changed)),
        cwd=_ROOT,
        env={"PYTHONPATH": f"{_ROOT}:{_ROOT / 'protos' / 'gen'}", "PATH": ""},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            said = json.loads(await child.stdout.readline())
        yield Alone(psutil.Process(child.pid), said["address"], said["tokens"], said["media_id"])
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        await child.wait()


async def _serve(changed: dict[str, Any]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    most: Any = changed.pop("most", {})
    async with serving(**changed) as world:
        people = [await world.register(handle) for handle in HANDLES]
        answer = await upload(world, people[0], _noise())
        tokens = {person.handle: person.access_token for person in people}
        told = {"address": world.address, "tokens": tokens, "media_id": answer.media.id}
        print(json.dumps(told), flush=True)
        for rate, limit in most.items():
            getattr(world.parts.rates, rate).limit = limit
        await ended.wait()


def _noise() -> bytes:
    """A picture that takes more bytes than gRPC keeps for a client that does not read."""
    out = io.BytesIO()
    Image.frombytes("RGB", (400, 400), random.Random(4).randbytes(3 * 400 * 400)).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve(json.loads(sys.argv[1])))
