"""How far the processors are behind the log: what `up` shows, and what tests wait for.

Counted in records between the log's end and the stored positions. Not a guess: when all are 0,
everything that was in the log when the ends were asked is in the views and the feeds; but for rows
that a node of the feed store forgot, from its return until delivery has stepped back, about a
second.
"""

from dataclasses import dataclass
from typing import Protocol

from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.log.marks import Marks
from millrace.log.port import Log
from millrace.stores.feed_port import FeedStore
from millrace.stores.port import ViewStore
from millrace.views import VIEWS

# Under this name delivery keeps its positions in the feed store.
DELIVERY = "delivery"
CHUNKS = ("chunks.small", "chunks.large")
_POLL_S = 0.1


class Stores(Protocol):
    """What lag is measured between."""

    @property
    def log(self) -> Log: ...
    @property
    def views(self) -> ViewStore: ...
    @property
    def feeds(self) -> FeedStore: ...


@dataclass(frozen=True, slots=True)
class Lag:
    """Records behind: by view; media events not planned yet; chunks not delivered yet."""

    views: dict[str, int]
    planning: int
    delivery: int

    def as_dict(self) -> dict[str, int]:
        return {**self.views, "planning": self.planning, "delivery": self.delivery}

    @property
    def total(self) -> int:
        return sum(self.views.values()) + self.planning + self.delivery


class LagMeter:
    """Measures again and again with one reader of the marks. Closed by `close`."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._marks = Marks(stores.log)

    async def close(self) -> None:
        await self._marks.close()

    async def measure(self) -> Lag:
        """Raises StoreUnavailable. Asks in the order of the flow: 0 means 0 at the start."""
        log, views = self._stores.log, self._stores.views
        ends = {topic: await log.ends(topic) for view in VIEWS for topic in view.topics}
        by_view = {}
        for view in VIEWS:
            stored = await views.positions(view.name)
            by_view[view.name] = sum(
                max(end - (stored[topic, partition].position if stored else 0), 0)
                for topic in view.topics
                for partition, end in enumerate(ends[topic])
            )
        await self._marks.refresh()
        planning = sum(
            max(end - self._marks.of(partition).planned, 0)
            for partition, end in enumerate(ends["media"])
        )
        return Lag(by_view, planning, await self._undelivered())

    async def wait_until_none(self, clock: Clock, *, timeout_s: float) -> Lag:
        """`process_all` of a running Millrace. Raises StoreUnavailable with what is left."""
        deadline_s = clock.monotonic_s() + timeout_s
        while True:
            lag = await self.measure()
            if lag.total == 0:
                return lag
            if clock.monotonic_s() >= deadline_s:
                raise StoreUnavailable(f"still behind after {timeout_s:.0f} s: {lag.as_dict()}")
            await clock.sleep(_POLL_S)

    async def _undelivered(self) -> int:
        behind = 0
        for topic in CHUNKS:
            ends = await self._stores.log.ends(topic)
            places = [(topic, partition) for partition in range(len(ends))]
            stored = await self._stores.feeds.positions(DELIVERY, places)
            behind += sum(
                max(end - stored.get((topic, partition), 0), 0)
                for partition, end in enumerate(ends)
            )
        return behind


async def wait_until_none(stores: Stores, clock: Clock, *, timeout_s: float) -> Lag:
    """As LagMeter's, once."""
    meter = LagMeter(stores)
    try:
        return await meter.wait_until_none(clock, timeout_s=timeout_s)
    finally:
        await meter.close()


async def measure(stores: Stores) -> Lag:
    """As LagMeter's, once."""
    meter = LagMeter(stores)
    try:
        return await meter.measure()
    finally:
        await meter.close()
