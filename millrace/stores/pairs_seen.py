"""Which pairs of ids have come before: exact in what it calls new, in a fixed room.

    seen = PairsSeen(64 * 1024 * 1024)
    again = seen.again(sources, targets)      # one bool a pair

A pair that is called new has certainly not come before. One that is called again may be new all
the same, the more often the fuller it is: with n pairs in b bits about n of b.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Odd numbers with bits all over: multiplied by them, neighbours part.
_MIX_SOURCE = np.uint64(0x9E3779B97F4A7C15)
_MIX_TARGET = np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(29)
_BIT = np.uint64(7)
_BYTE = np.uint64(3)


class PairsSeen:
    """One bit a pair, at the place that its hash says."""

    def __init__(self, size_bytes: int) -> None:
        self._bits: npt.NDArray[np.uint8] = np.zeros(size_bytes, np.uint8)
        self._places = np.uint64(8 * size_bytes)

    def again(self, sources: Ids, targets: Ids) -> Flags:
        """Whether each pair may have come before, in an earlier call or earlier in this one."""
        places = self._places_of(sources, targets)
        bytes_, bits = places >> _BYTE, (np.uint64(1) << (places & _BIT)).astype(np.uint8)
        again: Any = (self._bits[bytes_] & bits) != 0
        np.bitwise_or.at(self._bits, bytes_, bits)
        repeated = np.ones(places.size, np.bool_)
        repeated[np.unique(places, return_index=True)[1]] = False
        flags: Flags = again | repeated
        return flags

    def _places_of(self, sources: Ids, targets: Ids) -> npt.NDArray[np.uint64]:
        mixed = sources.view(np.uint64) * _MIX_SOURCE
        mixed = (mixed ^ (mixed >> _SHIFT)) + targets.view(np.uint64)
        mixed = mixed * _MIX_TARGET
        mixed ^= mixed >> _SHIFT
        return mixed % self._places
