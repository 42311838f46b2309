"""Changes of edges as columns of numbers: what is done to many at once costs little for each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from millrace.stores.changes import EdgeChange


class EdgeColumns(NamedTuple):
    """Changes of one edge table in the order of the log, one array a field of `EdgeChange`."""

    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    lives: npt.NDArray[np.bool_]
    numbers: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]
    at_ms: npt.NDArray[np.int64]

    @classmethod
    def of(cls, changes: Sequence[EdgeChange]) -> "EdgeColumns":
        """Raises OverflowError for a number beyond 64 bits."""
        _tables, *columns = zip(*changes, strict=True)
        kinds: tuple[Any, ...] = (np.int64, np.int64, np.bool_, np.int64, np.int64, np.int64)
        arrays: list[Any] = [np.array(*one) for one in zip(columns, kinds, strict=True)]
        return cls(*arrays)

    def where(self, flags: npt.NDArray[np.bool_]) -> "EdgeColumns":
        arrays: list[Any] = [column[flags] for column in self]
        return EdgeColumns(*arrays)

    @classmethod
    def joined(cls, parts: Sequence["EdgeColumns"]) -> "EdgeColumns":
        """At least one, one after the other."""
        arrays: list[Any] = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        return cls(*arrays)
