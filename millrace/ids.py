"""Ids, and the numbers of events.

An id is 63 bits: 41 of milliseconds since 2017-01-01, 12 of the author's partition, 10 of
sequence. Ids are roughly sorted by time. The partition in an id tells nobody where to send
anything: it only keeps two partitions from minting the same id, so that a clash is decided by
one partition (the first stays). User ids are different: dense, leased in blocks.
"""

import secrets
from typing import NewType

from millrace.clock import Clock

UserId = NewType("UserId", int)
MediaId = NewType("MediaId", int)

# Number of an event: generation * 2^48 + offset + 1. A position covers it when it is >= that.
# 0 is the position before the first event.
Number = NewType("Number", int)

EPOCH_MS = 1_483_228_800_000
PARTITION_BITS = 12
SEQUENCE_BITS = 10
GENERATION_SHIFT = 48
_SEQUENCES = 1 << SEQUENCE_BITS


def number_of(generation: int, offset: int) -> Number:
    """The number of the event at a Kafka offset of a topic's generation."""
    return Number((generation << GENERATION_SHIFT) + offset + 1)


def offset_after(number: int) -> int:
    """The Kafka offset of the event after this number, within the number's generation."""
    return number & ((1 << GENERATION_SHIFT) - 1)


class IdMint:
    """Mints ids that never fall in a process, whatever the clock does.

    Two processes may mint the same id: each starts a millisecond at a random sequence, which
    makes it rare, and the view of the partition decides, which makes it harmless.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ms = 0
        self._sequence = 0

    def mint(self, partition: int) -> int:
        now = max(self._clock.now_ms() - EPOCH_MS, 0)
        if now > self._last_ms:
            self._last_ms = now
            self._sequence = secrets.randbelow(_SEQUENCES // 2)
        elif self._sequence + 1 < _SEQUENCES:
            self._sequence += 1
        else:
            self._last_ms += 1
            self._sequence = 0
        return (
            self._last_ms << (PARTITION_BITS + SEQUENCE_BITS)
            | partition % (1 << PARTITION_BITS) << SEQUENCE_BITS
            | self._sequence
        )


def minted_ms(minted_id: int) -> int:
    """Milliseconds since 1970 at which an id was minted."""
    return (minted_id >> (PARTITION_BITS + SEQUENCE_BITS)) + EPOCH_MS
