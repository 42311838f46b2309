"""The cache in memory: for tests and the simulator only."""

from collections.abc import Mapping, Sequence

from millrace.clock import Clock


class MemoryCache:
    """Implements `Cache`. `away` makes it the empty cache that a dead one is."""

    def __init__(self, clock: Clock) -> None:
        self.away = False
        self._clock = clock
        self._kept: dict[bytes, tuple[float, bytes]] = {}

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {key: self._get(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    async def set_many(self, values: Mapping[bytes, bytes], *, ttl_s: int) -> None:
        for key, value in values.items():
            self._set(key, value, self._clock.monotonic_s() + ttl_s)

    async def delete_many(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if not self.away:
                self._kept.pop(key, None)

    async def add_many(self, amounts: Mapping[bytes, int], *, ttl_s: int) -> dict[bytes, int]:
        for key, amount in amounts.items():
            before = self._get(key)
            until_s = self._clock.monotonic_s() + ttl_s if before is None else self._kept[key][0]
            self._set(key, b"%d" % (int(before or 0) + amount), until_s)
        return {key: int(value) for key, value in (await self.get_many(list(amounts))).items()}

    async def close(self) -> None:
        """Nothing to close."""

    def _get(self, key: bytes) -> bytes | None:
        until_s, value = self._kept.get(key, (0.0, b""))
        return value if self._clock.monotonic_s() < until_s and not self.away else None

    def _set(self, key: bytes, value: bytes, until_s: float) -> None:
        if not self.away:
            self._kept[key] = (until_s, value)
