"""What a cache can do, for many keys in one round trip; `memcached` and its twin in memory.

A cache that is slow, dead or talks nonsense is an empty one: reads find nothing, writes are not
kept, and nothing here raises for it. What must not be lost is in the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# memcached takes a larger one for a date.
TTL_S_MAX = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Lease:
    """Who looked, found nothing fresh, and is the one to fill it. `cas` and `life` are the cache's:
    what the value was then, and since when the server must have been up.
    """

    cas: int
    life: int


@dataclass(frozen=True, slots=True)
class Look:
    """`value`: None where nothing is kept; `stale`: it was invalidated since it was filled;
    `lease`: the caller is asked to fill it, and nobody else is.
    """

    value: bytes | None
    stale: bool
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Fill:
    """What the winner of `lease` read; not empty."""

    lease: Lease
    value: bytes


class Cache(Protocol):
    """Keys: 1 to 250 bytes without blanks and control characters (a Bug otherwise). Times to
    live: 1 s to `TTL_S_MAX`.
    """

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there. Not for keys under leases: it takes one, and nobody fills."""

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        """A value above `memcached_value_bytes_max` is not kept."""

    async def delete_many(self, keys: Sequence[bytes]) -> None: ...

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        """Each amount, above 0, on its counter; the sums. A new counter starts at 0 and lives for
        `ttl_s`. Sums that are not known are left out, though an amount may have been added.
        """

    async def look_many(
        self, keys: Sequence[bytes], *, lease_s: int, early_s: int
    ) -> dict[bytes, Look]:
        """All that the cache has an answer for, kept or not. A lease is for the first who finds
        nothing, something stale, or what has fewer than `early_s` to live; the next one is asked
        after an invalidation, or when what was kept has ended: nothing, after `lease_s`.
        """

    async def fill_many(self, fills: Mapping[bytes, Fill], *, ttl_s: int) -> None:
        """Each lands in place of what its lease was won for. Where anything else came in between
        (an invalidation, another's fill, a value after a deletion), it lands stale, for as long as
        that lives; where nothing is kept now, or the server has restarted, not at all. An empty
        value is a Bug; one above `memcached_value_bytes_max` is not kept.
        """

    async def invalidate_many(self, keys: Sequence[bytes], *, stale_s: int) -> None:
        """What is kept is stale from now on and lives for `stale_s`; who looks next may fill it.
        A server that is slow, dead or passed over is not told, and nobody says so: who counts on
        it bounds the age of what he serves.
        """

    async def close(self) -> None: ...
