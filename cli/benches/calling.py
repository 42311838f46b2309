"""The bench's end of a client process (`caller`)."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from cli.benches.caller import Done, Turn
from cli.benches.stand import Stand
from cli.processes import ROOT
from deploy.local.child import bound_argv
from millrace.client import Session
from millrace.errors import MillraceError

# One turn holds the metadata of all sessions.
_LINE_BYTES_MAX = 8 * 1024 * 1024


class Calling:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def take(self, turn: Turn) -> Done:
        """Raises MillraceError when calls failed: such a round measures something else."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise MillraceError("the client process has no pipes")
        stdin.write(json.dumps(asdict(turn)).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise MillraceError("the client process has ended")
        done = Done(**json.loads(line))
        if done.failed:
            raise MillraceError(f"{done.failed} calls failed, the last one by {done.failure}")
        return done


@asynccontextmanager
async def calling(stand: Stand, name: str = "client") -> AsyncIterator[Calling]:
    process = await asyncio.create_subprocess_exec(
        *bound_argv((sys.executable, "-m", "cli.benches.caller")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,
        cwd=ROOT,
    )
    stand.count_process(process.pid, name)
    try:
        yield Calling(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def metadata_of(sessions: Sequence[Session]) -> list[list[list[str]]]:
    """What each session's calls carry, as `Client` sends it."""
    return [[list(pair) for pair in session.metadata()] for session in sessions]
