"""How often a user or an address may do what, as all processes count it together; best effort.

A process counts for itself in windows of fixed length, the same for all by the clock, and tells
memcached in the background what has become worth telling, learning the sums of all. So no call
waits for memcached, and without it each process counts alone.

Bound:  `rate_keys_max` counts a kind, the oldest go first; `rate_sync_keys_max` told at once
Exact:  no. A process tells a count from a twentieth of its limit on, every `rate_sync_ms`: P
        processes let through at most the limit, P/20 of it, and what comes in that time.
        At a window's border twice the limit may pass.
Not:    X-Forwarded-For: behind a proxy the address is the proxy's
"""

import asyncio
import hashlib
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from prometheus_client import Counter

from millrace.clock import Clock
from millrace.errors import Exhausted, PermissionDenied, Unauthenticated
from millrace.observe import metrics
from millrace.observe.logs import logger
from millrace.settings import Settings
from millrace.stores.cache_port import Cache

_Key = int | str | bytes
_TOLD_PARTS = 20
_HOUR_S = 3600
_PEERS_REMEMBERED = 4096
_NETWORK_BITS = 64
log = logger("services.rates")


class _Count:
    """`own`: here, not told yet; `known`: of all processes, as far as this one was told."""

    __slots__ = ("known", "own")

    def __init__(self) -> None:
        self.own = 0
        self.known = 0


class _Told(NamedTuple):
    """A count on its way to memcached."""

    of: _Count
    amount: int


class Rate:
    """One kind of count. A limit of 0 is none: nothing is counted then."""

    def __init__(
        self, name: str, limit: int, window_s: int, clock: Clock, keys_max: int, what: str
    ) -> None:
        self.name = name
        self.limit = limit
        self.window_s = window_s
        self._window_ms = window_s * 1000
        self._what = what
        self._now_ms = clock.now_ms
        self._keys_max = keys_max
        self._told_from = max(limit // _TOLD_PARTS, 1)
        self._refused: Counter = metrics.RATE_REFUSALS.labels(name)
        self._start_ms = self._end_ms = 0
        self._counts: dict[_Key, _Count] = {}
        self._to_tell: dict[_Key, _Count] = {}

    def take(self, key: _Key, amount: int = 1) -> None:
        """Count. Raises Exhausted (RATE_LIMITED) above the limit, until the window ends."""
        if not self.limit:
            return
        now_ms = self._now_ms()
        if not self._start_ms <= now_ms < self._end_ms:
            self._turn(now_ms)
        count = self._counts.get(key)
        if count is None:
            count = self._begin(key)
        count.own = own = count.own + amount
        if own >= self._told_from:
            self._to_tell[key] = count
        if own + count.known > self.limit:
            self._refused.inc()
            retry_after_s = (self._end_ms - now_ms) / 1000
            raise Exhausted(
                f"too many {self._what}: wait", reason="RATE_LIMITED", retry_after_s=retry_after_s
            )

    def give_back(self, key: _Key, amount: int = 1) -> None:
        """What was taken counts no more."""
        if count := self._counts.get(key):
            count.own -= amount

    def to_tell(self, at_most: int) -> dict[_Key, _Told]:
        """Counts that are worth telling now, longest waiting first; they count as told."""
        self._turn_if_over()
        keys = list(self._to_tell)[:at_most]
        told = {}
        for key in keys:
            count = self._to_tell.pop(key)
            if count.own > 0:
                told[key] = _Told(count, count.own)
                count.known += count.own
                count.own = 0
        return told

    @property
    def window(self) -> int:
        """Number of the window that counts now; the same in every process."""
        return self._start_ms // self._window_ms

    def __len__(self) -> int:
        return len(self._counts)

    def _turn_if_over(self) -> None:
        now_ms = self._now_ms()
        if not self._start_ms <= now_ms < self._end_ms:
            self._turn(now_ms)

    def _turn(self, now_ms: int) -> None:
        self._start_ms = now_ms - now_ms % self._window_ms
        self._end_ms = self._start_ms + self._window_ms
        self._counts = {}
        self._to_tell = {}

    def _begin(self, key: _Key) -> _Count:
        if len(self._counts) >= self._keys_max:
            oldest = next(iter(self._counts))
            del self._counts[oldest]
            self._to_tell.pop(oldest, None)
        count = self._counts[key] = _Count()
        return count


class Rates:
    """All kinds. One a process; `start` begins to tell, `close` ends it."""

    def __init__(self, settings: Settings, clock: Clock, cache: Cache, secret: bytes) -> None:
        """`secret`: of this installation; memcached gets no name and no address, only their MAC."""

        def rate(name: str, limit: int, window_s: int, what: str) -> Rate:
            return Rate(name, limit, window_s, clock, settings.rate_keys_max, what)

        def per_s(name: str, limit: int, what: str) -> Rate:
            return rate(name, limit * settings.rate_window_s, settings.rate_window_s, what)

        guesses_s = settings.rate_log_in_window_s
        self.user_calls = per_s("user_calls", settings.rate_user_calls_per_s_max, "calls")
        self.user_writes = per_s("user_writes", settings.rate_user_writes_per_s_max, "writes")
        self.address_calls = per_s(
            "address_calls", settings.rate_address_calls_per_s_max, "calls from this address"
        )
        self.registers = rate(
            "address_registers",
            settings.rate_registers_per_hour_max,
            _HOUR_S,
            "registrations from this address",
        )
        self.uploads = rate("user_uploads", settings.rate_uploads_per_hour_max, _HOUR_S, "uploads")
        self.stream_bytes = rate(
            "user_stream_bytes",
            settings.rate_stream_bytes_per_hour_max,
            _HOUR_S,
            "bytes were uploaded",
        )
        self._pair_guesses = rate(
            "log_in_failures_handle_from_address",
            settings.rate_log_in_failures_max,
            guesses_s,
            "wrong passwords",
        )
        self._address_guesses = rate(
            "log_in_failures_address",
            settings.rate_log_in_address_failures_max,
            guesses_s,
            "wrong passwords from this address",
        )
        self._handle_guesses = rate(
            "log_in_failures_handle",
            settings.rate_log_in_handle_failures_max,
            guesses_s,
            "wrong passwords",
        )
        self._all = (
            self.user_calls,
            self.user_writes,
            self.address_calls,
            self.registers,
            self.uploads,
            self.stream_bytes,
            self._pair_guesses,
            self._address_guesses,
            self._handle_guesses,
        )
        self._loopback_counts = settings.rate_loopback
        self._sync_s = settings.rate_sync_ms / 1000
        self._sync_keys_max = settings.rate_sync_keys_max
        self._clock = clock
        self._cache = cache
        self._secret = secret
        self._telling: asyncio.Task[None] | None = None

    def address_of(self, peer: str) -> str:
        """What counts as the address of gRPC's `peer`; empty for one that is not counted."""
        return _address_of(peer, self._loopback_counts)

    @contextmanager
    def guess(self, name_key: bytes, address: str, passwords: int = 1) -> Iterator[None]:
        """Around a log-in, or a change of the password, where a user's key is in place of the
        name's. So many passwords are tried: they count as failures until it ends as none. Raises
        Exhausted before.

        A guesser is stopped at his address first, so that the owner of the handle, who comes from
        elsewhere, still gets in.
        """
        counted: list[tuple[Rate, _Key]] = [(self._handle_guesses, name_key)]
        if address:
            counted.insert(0, (self._address_guesses, address))
            counted.insert(0, (self._pair_guesses, name_key + address.encode()))
        for rate, key in counted:
            rate.take(key, passwords)
        try:
            yield
        except (Unauthenticated, PermissionDenied):
            raise
        except BaseException:
            self._give_back(counted, passwords)
            raise
        self._give_back(counted, passwords)

    @staticmethod
    def _give_back(counted: list[tuple[Rate, _Key]], passwords: int) -> None:
        for rate, key in counted:
            rate.give_back(key, passwords)

    def start(self) -> None:
        self._telling = asyncio.create_task(self._tell_for_ever())

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def tell(self) -> None:
        """One round: tell what is worth it, learn the sums."""
        left = self._sync_keys_max
        for rate in self._all:
            counts = rate.to_tell(left)
            told = {self._cache_key(rate, key): one for key, one in counts.items()}
            left -= len(told)
            # Two windows: the clocks of processes may differ.
            sums = await self._cache.add_many(
                {key: one.amount for key, one in told.items()}, ttl_s=2 * rate.window_s
            )
            for key, total in sums.items():
                count = told[key].of
                count.known = max(count.known, total)
            if left <= 0:
                return

    async def _tell_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._sync_s)
            try:
                await self.tell()
            except Exception:
                # A cache that is away raises nothing, so this is our own mistake. It must not
                # leave limits to each process alone for good.
                log.exception("rates are counted by this process alone")

    def _cache_key(self, rate: Rate, key: _Key) -> bytes:
        said = f"{rate.name}:{rate.window}:{key!r}".encode()
        mac = hashlib.blake2b(said, key=self._secret, digest_size=16)
        return b"rate:" + mac.hexdigest().encode()


@lru_cache(_PEERS_REMEMBERED)
def _address_of(peer: str, loopback_counts: bool) -> str:
    """IPv4 as it is, IPv6 by its network of 64 bits, which is what one customer gets."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    try:
        address = ipaddress.ip_address(rest.rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback and not loopback_counts:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
