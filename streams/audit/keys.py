"""The keys of one slice: those whose hash lies in a range, as many as fit into memory.

A slice begins where the last one ended. It takes keys as the log names them; where there are too
many, or they hold too much, those with the highest hashes go, and the range ends below them: the
next slice takes them. A key that is there was there from its first event on.
"""

from collections.abc import Callable, Collection, Iterator
from heapq import heappop, heappush

import xxhash

HASHES = 2**64
# After a sweep there must be room, or the next member would sweep again.
_ROOM = 0.75
_DROPPED_AT_ONCE = 8


class Keys:
    """`keys_max`: at most so many. `chosen`: exactly these, whatever their hashes are."""

    def __init__(
        self, *, seed: int, low: int, keys_max: int, chosen: Collection[int] | None = None
    ) -> None:
        self.low = low
        self.high = HASHES
        self._seed = seed
        self._keys_max = keys_max
        self.chosen = chosen is not None
        self._keys: set[int] = set(chosen or ())
        # The highest hash first.
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def take(self, key: int) -> bool:
        """Whether the key is of this slice; one that is new to it may be."""
        if key in self._keys:
            return True
        if self.chosen:
            return False
        hashed = self.hash(key)
        if not self.low <= hashed < self.high:
            return False
        self._keys.add(key)
        heappush(self._heap, (-hashed, key))
        if len(self._keys) > self._keys_max:
            self.drop()
        return key in self._keys

    def drop(self) -> None:
        """Leave the key of the highest hash to the next slice."""
        hashed, key = heappop(self._heap)
        self.high = -hashed
        self._keys.discard(key)

    def hash(self, key: int) -> int:
        """Spread evenly over 64 bits; another order for every seed."""
        return xxhash.xxh3_64_intdigest(key.to_bytes(8, "big", signed=True), seed=self._seed)

    @property
    def can_drop(self) -> bool:
        """One key is always kept, however much it holds."""
        return len(self._heap) > 1


class Room:
    """For what the keys of a slice hold: above `members_max` keys are left to the next slice.

    `sweep` forgets what dropped keys held, and says how much is held then. One key alone is held
    whole; then there is a sweep whenever a third more has come, not at each member.
    """

    def __init__(self, keys: Keys, members_max: int, sweep: Callable[[], int]) -> None:
        self._keys = keys
        self._members_max = members_max
        self._sweep = sweep
        self._held = 0
        self._sweep_above = members_max

    def add(self) -> None:
        """One member more is held. Where keys were chosen none is dropped."""
        self._held += 1
        if self._held > self._sweep_above and not self._keys.chosen:
            self._held = self._make()
            self._sweep_above = max(self._members_max, int(self._held / _ROOM))

    def _make(self) -> int:
        held, keys = self._sweep(), self._keys
        while held > self._members_max * _ROOM and keys.can_drop:
            for _ in range(max(len(keys) // _DROPPED_AT_ONCE, 1)):
                if keys.can_drop:
                    keys.drop()
            held = self._sweep()
        return held
