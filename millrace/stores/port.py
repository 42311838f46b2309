"""What a view store can do: apply; reads of rows, claims, edges, pages, counts; positions.

`postgres` is the real one, `memory` its twin; one contract suite for both. Not SQL: a store
that is not relational fits behind it as well.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from millrace.stores.changes import Batch, Key, Scalar
from millrace.stores.fold import ClaimKey, ClaimRow, Row
from millrace.stores.schema import EdgeTable, RowTable, ViewSchema

T = TypeVar("T")


class EdgeRow(NamedTuple):
    """A live edge. `version`: number of the event that last began it."""

    source: int
    target: int
    version: int
    at_ms: int


class StoredPosition(NamedTuple):
    """How far a view is in one partition, and in which epoch of itself."""

    epoch: int
    log_id: int
    position: int


class PositionRow(NamedTuple):
    """A position row in full: the view, its range of shards, and where it is."""

    view: str
    shard_from: int
    shard_to: int
    topic: str
    partition: int
    epoch: int
    log_id: int
    position: int


class ViewStore(Protocol):
    """Every method raises StoreUnavailable when the store does not answer in time.

    Reads raise InvalidRequest for a key that no row can have (a number beyond 64 bits). Scans
    are for checks: they see one moment, in bounded memory, and keep a connection until they are
    read to the end or closed.
    """

    async def open_view(
        self, schema: ViewSchema, partitions: Mapping[str, int], log_id: int
    ) -> None:
        """Give a view that has no position rows those at 0, epoch 1. A view that has some keeps
        them. Raises FailedPrecondition when they belong to another log.
        """

    async def apply(self, schema: ViewSchema, batch: Batch) -> None:
        """One transaction: positions move from exactly `start` to `end`, then rows, claims,
        edges and counters.

        Raises PositionMoved when a position is not at `start` (nothing is applied), and
        PoisonEvent when the store refuses a value (nothing is applied; halve the batch). After
        StoreUnavailable it may or may not have been applied: the stored position tells.
        """

    async def positions(self, view: str) -> dict[tuple[str, int], StoredPosition]:
        """By (topic, partition); empty for a view that was never opened."""

    async def at_one_moment(
        self, view: str, read: Callable[["ViewStore"], Awaitable[T]]
    ) -> tuple[dict[tuple[str, int], StoredPosition], T]:
        """The view's positions, and what `read` reads, as they stood together.

        `read` gets a store that reads at that moment, one read at a time, and for no longer.
        """

    async def all_positions(self) -> list[PositionRow]: ...

    async def raise_epoch(self, view: str, at_least: int = 0) -> int:
        """One more epoch for all position rows of the view, or `at_least` where that is more
        (a restored store may have forgotten some); returns the new one. Raises
        FailedPrecondition for a view that was never opened.
        """

    async def get_many(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, Row]:
        """Rows by key, ended ones included; absent keys are left out."""

    async def numbers(self, table: RowTable, keys: Sequence[Key]) -> dict[Key, int]:
        """The number of each row that stands, by key: for what is asked on every call."""

    async def linked(
        self, table: RowTable, keys: Sequence[Key], column: str, other: RowTable, wanted: str
    ) -> dict[Key, tuple[Scalar, Scalar | None]]:
        """By key, of each row that stands: `column`, an id of `other`, and `wanted` of that row;
        None where that does not stand. One read of one moment instead of two.
        """

    async def claims(self, table: RowTable, keys: Sequence[ClaimKey]) -> dict[ClaimKey, ClaimRow]:
        """Which rows requests have created."""

    async def edges(
        self, table: EdgeTable, pairs: Sequence[tuple[int, int]]
    ) -> dict[tuple[int, int], EdgeRow]:
        """Live edges among the pairs (source, target)."""

    async def page(
        self,
        table: EdgeTable,
        source: int,
        *,
        after: int | None = None,
        limit: int,
        inverse: bool = False,
    ) -> list[EdgeRow]:
        """Live edges of a source by target, after the target `after` in the table's order.

        `inverse`: those of a target by source, upwards (`after` is then a source).
        """

    async def inverse_ids(
        self, table: EdgeTable, targets: Sequence[int], *, limit: int
    ) -> dict[int, list[int]]:
        """The first sources of each target, upwards, at most `limit` of each; in one read.

        Every target asked for is in the answer. `page` goes on after the last source.
        """

    async def merged_page(
        self, table: EdgeTable, sources: Sequence[int], *, before: int | None = None, limit: int
    ) -> list[EdgeRow]:
        """The newest live edges of all the sources together, by target downwards."""

    async def count(
        self, table: EdgeTable, ids: Sequence[int], *, inverse: bool = False
    ) -> dict[int, int]:
        """Live edges by source (or by target); 0 for those without any."""

    def scan_rows(self, table: RowTable) -> AsyncIterator[tuple[Key, Row]]:
        """Every row, ended ones included, by key."""

    def scan_edges(self, table: EdgeTable) -> AsyncIterator[EdgeRow]:
        """Every live edge, by source and target."""

    def scan_counts(
        self, table: EdgeTable, *, inverse: bool = False
    ) -> AsyncIterator[tuple[int, int]]:
        """Every counter that is not zero, as (id, value), by id."""

    async def close(self) -> None: ...
