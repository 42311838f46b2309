"""The way in: what a client sent goes to a worker process and comes back clean.

At most `uploads_parallel_max` at once, each within `clean_timeout_s`. A worker that crashes,
hangs or is no longer waited for is killed; the next job gets another one.
"""

import asyncio
import contextlib
import dataclasses
import json
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from millrace.content.kind import Kind
from millrace.content.limits import Limits, broken, refused
from millrace.content.spool import Spool, SpoolRoom, on_disk
from millrace.content.worker import MESSAGE_BYTES_MAX
from millrace.content.worker_process import WorkerProcess
from millrace.errors import Bug, Exhausted, StoreUnavailable
from millrace.settings import Settings

# Signals by which somebody else ends a process; any other is the file's doing.
_NOT_THE_FILE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Content:
    """A clean file. `width` and `height` as seen; `duration_ms` is 0 for a picture.

    `sha256` is of these bytes, not of those that were sent.
    """

    kind: Kind
    width: int
    height: int
    duration_ms: int
    size_bytes: int
    sha256: bytes
    file: BinaryIO

    async def chunks(self, chunk_bytes: int = 256 * 1024) -> AsyncIterator[bytes]:
        """The bytes in order; each call begins at the start."""
        at = 0
        while at < self.size_bytes:
            chunk = await asyncio.to_thread(self._read, at, chunk_bytes)
            at += len(chunk)
            yield chunk

    def _read(self, at: int, chunk_bytes: int) -> bytes:
        self.file.seek(at)
        chunk = self.file.read(chunk_bytes)
        if not chunk:
            raise Bug("a clean file is shorter than it was")
        return chunk


class Cleaner:
    """One a process. `limits` and `room` are for the spools of its uploads."""

    def __init__(self, settings: Settings) -> None:
        self.limits = limits_of(settings)
        self.room = SpoolRoom(settings.spool_bytes_max, settings.spool_dir)
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.uploads_parallel_max)
        self._waiting = 0
        self._idle: list[WorkerProcess] = []
        self._closed = False

    def spool(self) -> Spool:
        """For one upload."""
        return Spool(self.room, self.limits)

    @contextlib.asynccontextmanager
    async def clean(self, sent: Spool | bytes) -> AsyncIterator[Content]:
        """The clean file, until the block is left.

        Raises InvalidRequest with a reason of `limits.py`, Exhausted when too many wait, and
        StoreUnavailable when a worker was killed from outside, or the disk is full: nothing is
        decided, retry.
        """
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(sent, bytes):
                spool = await stack.enter_async_context(self.spool())
                await spool.write(sent)
            else:
                spool = sent
            source = await spool.file()
            with on_disk():
                opened = await asyncio.to_thread(tempfile.TemporaryFile, dir=self.room.folder)
            out = cast(BinaryIO, opened)
            stack.callback(out.close)
            async with self._slot():
                content = await self._cleaned(source, out)
            yield content

    async def close(self) -> None:
        """Ends idle workers. A worker with a job ends with it."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= self._settings.uploads_waiting_max:
            raise Exhausted("too many uploads at once: try again", reason="UPLOADS_BUSY")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _cleaned(self, source: BinaryIO, out: BinaryIO) -> Content:
        worker = self._worker()
        job = json.dumps(dataclasses.asdict(self.limits)).encode()
        try:
            async with asyncio.timeout(self._settings.clean_timeout_s):
                answer = await worker.ask(job, (source.fileno(), out.fileno()), MESSAGE_BYTES_MAX)
        except TimeoutError:
            await worker.kill()
            raise broken("the file takes too long to decode") from None
        except BaseException:
            await asyncio.shield(worker.kill())
            raise
        if not answer:
            raise await _how_it_ended(worker)
        await self._put_back(worker)
        return _content(json.loads(answer), out)

    def _worker(self) -> WorkerProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            worker.forget()
        return WorkerProcess(
            memory_bytes=self._settings.clean_memory_bytes_max,
            file_bytes=2 * self._settings.video_bytes_max,
        )

    async def _put_back(self, worker: WorkerProcess) -> None:
        if self._closed or worker.jobs >= self._settings.clean_jobs_a_worker:
            await worker.end()
        else:
            self._idle.append(worker)


def limits_of(settings: Settings) -> Limits:
    return Limits(**{one.name: getattr(settings, one.name) for one in dataclasses.fields(Limits)})


async def _how_it_ended(worker: WorkerProcess) -> Exception:
    code = await worker.kill()
    if -code in _NOT_THE_FILE:
        return StoreUnavailable("the decoder was stopped")
    return broken("the file cannot be decoded")


def _content(answer: dict[str, object], out: BinaryIO) -> Content:
    if "reason" in answer:
        raise refused(str(answer["reason"]), str(answer["message"]))
    if "no_room" in answer:
        raise StoreUnavailable(f"the spool takes no bytes: {answer['no_room']}")
    if "found" not in answer:
        raise Bug(f"the decoder failed: {answer.get('bug')}")
    found = cast("dict[str, int | str]", answer["found"])
    return Content(
        kind=Kind(found["kind"]),
        width=int(found["width"]),
        height=int(found["height"]),
        duration_ms=int(found["duration_ms"]),
        size_bytes=int(found["size_bytes"]),
        sha256=bytes.fromhex(str(found["sha256"])),
        file=out,
    )
