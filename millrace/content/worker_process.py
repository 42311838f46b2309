"""A worker process as its parent sees it: started, asked, ended."""

import asyncio
import os
import socket
import subprocess
import sys

_PATHS = os.pathsep.join(os.path.abspath(path) for path in sys.path)


class WorkerProcess:
    """One process, one job at a time. Starts at once and needs no answer to be ready.

    It inherits nothing but its socket: no other file, and none of our environment, where the
    keys to stores may be.
    """

    def __init__(self, *, memory_bytes: int, file_bytes: int) -> None:
        self.jobs = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        numbers = (theirs.fileno(), os.getpid(), memory_bytes, file_bytes)
        # From this thread, not from a pool: the worker ends with the thread that started it.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "millrace.content.worker", *map(str, numbers)],
                env={"PYTHONPATH": _PATHS},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def ask(
        self, message: bytes, descriptors: tuple[int, ...], answer_bytes_max: int
    ) -> bytes:
        """The answer; empty when the process has ended."""
        self.jobs += 1
        try:
            socket.send_fds(self._socket, [message], descriptors)
            return await asyncio.get_running_loop().sock_recv(self._socket, answer_bytes_max)
        except ConnectionError:
            return b""

    async def end(self) -> int:
        """Ask it to end, and wait for it. Only between jobs."""
        self._socket.close()
        return await asyncio.to_thread(self._process.wait)

    async def kill(self) -> int:
        """End it whatever it does; returns its exit code, that of an earlier end if there was."""
        if self._socket.fileno() >= 0:
            self._socket.close()
        if self._process.poll() is None:
            self._process.kill()
        return await asyncio.to_thread(self._process.wait)

    def forget(self) -> None:
        """Close what is left of a process that has ended."""
        self._socket.close()
