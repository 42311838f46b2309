"""How far a cache server is: each is a view, and its position lies in it beside the values.

Whoever invalidates writes it after the invalidations that it covers were acknowledged; whoever
reads asks for it before the values, in the same round trip. So a value was read when all up to
the position was invalidated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgpack

FORMAT = 1
# A server whose position is older is neither used nor filled: so old may be what is served.
AGE_MS_MAX = 5_000
# A few servers, each with one that is written anew some times a second.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class CachePosition:
    """`as_of_ms`: wall-clock time before which every event that was acknowledged is covered. While
    its writer keeps up that is now; while it lags, however alive, it does not move. `numbers`: by
    (topic, partition), and never ahead of what was invalidated. `epochs`: of the views that were
    followed to there.
    """

    as_of_ms: int
    numbers: Mapping[tuple[str, int], int]
    epochs: Mapping[str, int]

    def usable(self, now_ms: int) -> bool:
        return now_ms - self.as_of_ms <= AGE_MS_MAX

    def covers(self, needs: Mapping[tuple[str, int], int]) -> bool:
        return all(self.numbers.get(place, 0) >= number for place, number in needs.items())


def encode(position: CachePosition) -> bytes:
    """Partitions that are not named are at 0."""
    topics: dict[str, list[int]] = {}
    for (topic, partition), number in sorted(position.numbers.items()):
        numbers = topics.setdefault(topic, [])
        numbers.extend([0] * (partition - len(numbers)))
        numbers.append(number)
    packed: bytes = msgpack.packb((FORMAT, position.as_of_ms, topics, dict(position.epochs)))
    return packed


@lru_cache(_REMEMBERED)
def decode(value: bytes) -> CachePosition | None:
    """None for what another version has written, or nobody."""
    try:
        version, as_of_ms, topics, epochs = msgpack.unpackb(value)
        if version != FORMAT:
            return None
        numbers = {
            (str(topic), partition): int(number)
            for topic, some in topics.items()
            for partition, number in enumerate(some)
        }
        return CachePosition(int(as_of_ms), numbers, dict(epochs))
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException):
        return None
