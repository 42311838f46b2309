"""memcached: pipelined meta commands, one round trip a call, over aiomcache's connections.

aiomcache (0.8.2) puts a connection back after a cancelled call, its reply unread, and the next
caller takes that for his own. Here a connection goes back only when all its replies were read and
were the right ones; else it is closed.

Bound:  `memcached_connections_max` to a server; `memcached_timeout_ms` a call, waiting for a
        connection included; `memcached_batch_max` commands at once, more go in turns
Fails:  as an empty cache (`cache_port`); after `memcached_failures_max` failures in a row the
        server is passed over for `memcached_pause_s`
Not:    several servers (`cache_ring`)
"""

import asyncio
import re
from asyncio import StreamReader
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

from aiomcache.pool import Connection, MemcachePool

from millrace.clock import Clock
from millrace.errors import Bug
from millrace.observe import metrics
from millrace.observe.logs import logger
from millrace.settings import Settings
from millrace.stores.breaker import Breaker
from millrace.stores.cache_port import TTL_S_MAX, Fill, Lease, Look

log = logger("millrace.stores.memcached")

_END = b"mn\r\n"
_CODES = frozenset((b"HD", b"VA", b"EN", b"NS", b"EX", b"NF", b"MN"))
_LINE_BYTES_MAX = 2048
_KEY = re.compile(rb"[\x21-\x7e\x80-\xff]{1,250}")
_DIGITS = re.compile(rb"[0-9]{1,20}")


class _BrokenReply(Exception):
    """The server said what it cannot have meant: whose replies these are is not known."""


class _Reply(NamedTuple):
    """`flags`: what the command asked to have told, such as `k` with the key."""

    code: bytes
    flags: Sequence[bytes]
    value: bytes

    @property
    def key(self) -> bytes:
        return next((flag[1:] for flag in self.flags if flag[:1] == b"k"), b"")


class Connections(MemcachePool):
    """aiomcache's pool, whose connections are clean or closed, and whose callers take turns.

    Without the turns, somebody who waits for a connection that is closed instead of given back
    would wait for ever. `made`: how many there have been; each has its number among them.
    """

    def __init__(self, host: str, port: int, size: int) -> None:
        super().__init__(
            host, port, minsize=size, maxsize=size, conn_args={"limit": _LINE_BYTES_MAX}
        )
        self._turns = asyncio.Semaphore(size)
        self._numbers: WeakKeyDictionary[asyncio.StreamWriter, int] = WeakKeyDictionary()
        self.made = 0

    def number(self, connection: Connection) -> int:
        return self._numbers[connection.writer]

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """Goes back only if the block ends without an exception, CancelledError included."""
        async with self._turns:
            connection = await self.acquire()
            try:
                yield connection
            except BaseException:
                self._in_use.remove(connection)
                connection.writer.transport.abort()
                raise
            self.release(connection)

    async def _create_new_conn(self) -> Connection | None:
        connection = await super()._create_new_conn()
        if connection is not None:
            self.made += 1
            self._numbers[connection.writer] = self.made
        return connection


class Memcached:
    """Implements `Cache`: one server of it. One a process and server."""

    def __init__(self, address: str, settings: Settings, clock: Clock) -> None:
        """`address`: host:port."""
        host, _, port = address.rpartition(":")
        self._connections = Connections(
            host.strip("[]"), int(port), settings.memcached_connections_max
        )
        self._timeout_s = settings.memcached_timeout_ms / 1000
        self._batch_max = settings.memcached_batch_max
        self._value_bytes_max = settings.memcached_value_bytes_max
        self._breaker = Breaker(
            clock,
            failures_max=settings.memcached_failures_max,
            pause_s=settings.memcached_pause_s,
        )

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        asked = set(keys)
        found: dict[bytes, bytes] = {}

        def take(reply: _Reply) -> None:
            found[_key_of(reply, asked)] = reply.value

        await self._pipelined([b"mg %b v k q\r\n" % _checked(key) for key in asked], take)
        return found

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        ttl_s = _checked_ttl(ttl_s)
        await self._pipelined(
            [
                b"ms %b %d T%d q\r\n%b\r\n" % (_checked(key), len(value), ttl_s, value)
                for key, value in values.items()
                if len(value) <= self._value_bytes_max
            ]
        )

    async def delete_many(self, keys: Sequence[bytes]) -> None:
        await self._pipelined([b"md %b q\r\n" % _checked(key) for key in keys])

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        ttl_s = _checked_ttl(ttl_s)
        sums: dict[bytes, int] = {}

        def take(reply: _Reply) -> None:
            if not _DIGITS.fullmatch(reply.value):
                raise _BrokenReply("a sum that is no number")
            sums[_key_of(reply, amounts)] = int(reply.value)

        await self._pipelined(
            [
                b"ma %b N%d J%d D%d v k\r\n" % (_checked(key), ttl_s, amount, amount)
                for key, amount in amounts.items()
            ],
            take,
        )
        return sums

    async def look_many(
        self, keys: Sequence[bytes], *, lease_s: int, early_s: int
    ) -> dict[bytes, Look]:
        terms = b"v c k N%d R%d" % (_checked_ttl(lease_s), early_s)
        commands = [b"mg %b %b\r\n" % (_checked(key), terms) for key in dict.fromkeys(keys)]
        asked, found = set(keys), dict[bytes, Look]()

        async def look(connection: Connection) -> None:
            # Before anything is sent: every connection that counts was open when a lease was won.
            life = self._connections.made

            def take(reply: _Reply) -> None:
                found[_key_of(reply, asked)] = _look_of(reply, life)

            await self._send(connection, commands, take)

        if commands:
            await self._exchange(look)
        return found

    async def fill_many(self, fills: Mapping[bytes, Fill], *, ttl_s: int) -> None:
        """The numbers of compare-and-set begin anew when a server restarts, and one that was won
        before may fit by chance. So a fill takes a connection that was open when its lease was
        won, and has been since; else it is not sent.
        """
        ttl_s = _checked_ttl(ttl_s)
        if any(not fill.value for fill in fills.values()):
            raise Bug("an empty value cannot be told from none")
        commands = {
            key: b"ms %b %d T%d C%d I q\r\n%b\r\n"
            % (_checked(key), len(fill.value), ttl_s, fill.lease.cas, fill.value)
            for key, fill in fills.items()
            if len(fill.value) <= self._value_bytes_max
        }

        async def fill(connection: Connection) -> None:
            number = self._connections.number(connection)
            sent = [line for key, line in commands.items() if number <= fills[key].lease.life]
            # Asked even for nothing: what is made of the outcome counts on an answer.
            await self._send(connection, sent or [b""])

        if commands:
            await self._exchange(fill)

    async def invalidate_many(self, keys: Sequence[bytes], *, stale_s: int) -> None:
        stale_s = _checked_ttl(stale_s)
        await self._pipelined([b"md %b I T%d q\r\n" % (_checked(key), stale_s) for key in keys])

    async def close(self) -> None:
        await self._connections.clear()

    async def _pipelined(
        self, commands: Sequence[bytes], take: Callable[[_Reply], None] | None = None
    ) -> None:
        """Send all, give every reply to `take`."""
        if commands:
            await self._exchange(lambda connection: self._send(connection, commands, take))

    async def _exchange(self, ask: Callable[[Connection], Awaitable[None]]) -> None:
        """Whatever fails ends it, as if nothing was said."""
        if not self._breaker.admits():
            metrics.CACHE_CALLS.labels("passed over").inc()
            return
        outcome = "cancelled"
        try:
            async with asyncio.timeout(self._timeout_s), self._connections.one() as connection:
                await ask(connection)
            outcome = "answered"
        except TimeoutError:
            outcome = "late"
        except (OSError, EOFError):
            outcome = "disconnected"
        except (_BrokenReply, asyncio.LimitOverrunError):
            outcome = "garbled"
        finally:
            self._judge(outcome)

    async def _send(
        self,
        connection: Connection,
        commands: Sequence[bytes],
        take: Callable[[_Reply], None] | None = None,
    ) -> None:
        for start in range(0, len(commands), self._batch_max):
            batch = commands[start : start + self._batch_max]
            # No drain: replies are read while the rest of the batch is still being sent.
            connection.writer.write(b"".join((*batch, _END)))
            await self._read(connection.reader, take)

    async def _read(self, reader: StreamReader, take: Callable[[_Reply], None] | None) -> None:
        while (reply := await self._reply(reader)).code != b"MN":
            if take is not None:
                take(reply)

    async def _reply(self, reader: StreamReader) -> _Reply:
        code, *words = (await reader.readuntil(b"\r\n"))[:-2].split(b" ")
        if code not in _CODES:
            # Errors as well: the server says them of any command, and goes on after some only.
            raise _BrokenReply("neither a reply nor the end")
        if code != b"VA":
            return _Reply(code, words, b"")
        if not words or not _DIGITS.fullmatch(words[0]) or int(words[0]) > self._value_bytes_max:
            raise _BrokenReply("a value of no size, or too large")
        value = await reader.readexactly(int(words[0]) + 2)
        if value[-2:] != b"\r\n":
            raise _BrokenReply("a value that does not end where it should")
        return _Reply(code, words[1:], value[:-2])

    def _judge(self, outcome: str) -> None:
        metrics.CACHE_CALLS.labels(outcome).inc()
        if outcome == "cancelled":
            return
        was_open = self._breaker.open
        if outcome == "answered":
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        if self._breaker.open != was_open:
            log.warning("memcached", state="answers" if was_open else "passed over", last=outcome)


def _key_of(reply: _Reply, asked: Container[bytes]) -> bytes:
    if reply.code != b"VA" or reply.key not in asked:
        raise _BrokenReply("a reply to another call")
    return reply.key


def _look_of(reply: _Reply, life: int) -> Look:
    told = {flag[:1]: flag[1:] for flag in reply.flags}
    if not _DIGITS.fullmatch(told.get(b"c", b"")):
        raise _BrokenReply("a value without its number")
    lease = Lease(int(told[b"c"]), life) if b"W" in told else None
    return Look(reply.value or None, b"X" in told, lease)


def _checked(key: bytes) -> bytes:
    if not _KEY.fullmatch(key):
        raise Bug(f"no key for memcached: {key!r}")
    return key


def _checked_ttl(ttl_s: int) -> int:
    if not 0 < ttl_s <= TTL_S_MAX:
        raise Bug(f"no time to live for memcached: {ttl_s} s")
    return ttl_s
