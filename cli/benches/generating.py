"""The bench's end of a load generator (`generator`)."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from cli.benches.generator import Done, Turn, World
from cli.processes import ROOT
from deploy.local.child import bound_argv
from millrace.errors import MillraceError

# An answer names each pair that was liked.
_LINE_BYTES_MAX = 64 * 1024 * 1024


class Generating:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def take(self, turn: Turn) -> Done:
        await self.tell(turn)
        answers = self._process.stdout
        line = await answers.readline() if answers is not None else b""
        if not line:
            raise MillraceError("the load generator has ended")
        return Done(**json.loads(line))

    async def tell(self, what: Turn | World) -> None:
        asked = self._process.stdin
        if asked is None:
            raise MillraceError("the load generator has no pipes")
        asked.write(json.dumps(asdict(what)).encode() + b"\n")
        await asked.drain()


@asynccontextmanager
async def generating(world: World) -> AsyncIterator[Generating]:
    process = await asyncio.create_subprocess_exec(
        *bound_argv((sys.executable, "-m", "cli.benches.generator")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,
        cwd=ROOT,
    )
    try:
        generator = Generating(process)
        await generator.tell(world)
        yield generator
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
