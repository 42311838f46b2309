"""A TCP proxy whose connections a test cuts.

async with cutting(address) as proxy:
    client = Client(proxy.address)
    proxy.cut()                          # both sides see their connection reset
    proxy.hang()                         # what is open stays so, and nothing passes any more
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """`passed_bytes`: from clients to the server, so far."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.passed_bytes = 0
        self.cuts = 0
        self._hung: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Every connection that is open now."""
        self.cuts += bool(self._open)
        for writer in self._open:
            writer.transport.abort()

    def hang(self) -> None:
        """Every connection that is open now, as when the server's process stands still."""
        self._hung |= self._open

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
            self._open.add(back)
            up = asyncio.create_task(self._pass(reader, back, count=True))
            down = asyncio.create_task(self._pass(there, writer))
            await asyncio.gather(up, down)
            self._open.discard(back)
        except OSError:
            writer.transport.abort()
        finally:
            self._open.discard(writer)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool = False
    ) -> None:
        with suppress(OSError):
            while some := await reader.read(64 * 1024):
                if writer in self._hung:
                    continue
                self.passed_bytes += len(some) if count else 0
                writer.write(some)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def cutting(target: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.take, "127.0.0.1", 0)
    proxy.address = "{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
