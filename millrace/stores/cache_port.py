"""What a cache can do, for many keys in one round trip; `memcached` and its twin in memory.

A cache that is slow, dead or talks nonsense is an empty one: reads find nothing, writes are not
kept, and nothing here raises for it. What must not be lost is in the log.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

# memcached takes a larger one for a date.
TTL_S_MAX = 30 * 24 * 3600


class Cache(Protocol):
    """Keys: 1 to 250 bytes without blanks and control characters (a Bug otherwise). Times to
    live: 1 s to `TTL_S_MAX`.
    """

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there."""

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        """A value above `memcached_value_bytes_max` is not kept."""

    async def delete_many(self, keys: Sequence[bytes]) -> None: ...

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        """Each amount, above 0, on its counter; the sums. A new counter starts at 0 and lives for
        `ttl_s`. Sums that are not known are left out, though an amount may have been added.
        """

    async def close(self) -> None: ...
