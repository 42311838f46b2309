"""Waiting until a view covers positions: read-your-writes, and RPCs that answer when applied.

One poll of a view's positions serves all who wait for it, and nobody polls while nobody waits.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.observe import metrics
from millrace.settings import Settings
from millrace.stores.port import ViewStore

# (topic, partition) -> the number of the event to be covered.
Needs = Mapping[tuple[str, int], int]


@dataclass(slots=True)
class _Watched:
    """A view as last seen, and who waits for it."""

    seen: dict[tuple[str, int], int] = field(default_factory=dict)
    seen_s: float = float("-inf")
    waiting: dict[asyncio.Future[None], Needs] = field(default_factory=dict)
    poller: asyncio.Task[None] | None = None


class Positions:
    """Knows how far views are. What was seen counts for `position_seen_ms`: a view may go back
    (promotion of a replica), though never behind a caller who looks for that long.
    """

    def __init__(self, store: ViewStore, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._poll_s = settings.position_poll_ms / 1000
        self._seen_s = settings.position_seen_ms / 1000
        self._views: dict[str, _Watched] = {}

    async def covers(self, view: str, needs: Needs, timeout_s: float) -> bool:
        """Whether the view covers all of `needs`, now or within `timeout_s`.

        A store that does not answer is waited for like a view that lags. Partitions that the
        view does not follow are never covered: leave them out.
        """
        if self.has_covered(view, needs):
            return True
        watched = self._views.setdefault(view, _Watched())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched.waiting[future] = needs
        if watched.poller is None:
            watched.poller = asyncio.create_task(self._poll(view, watched))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            metrics.VIEW_WAITS.labels("late").inc()
            return False
        finally:
            watched.waiting.pop(future, None)
        metrics.VIEW_WAITS.labels("covered").inc()
        return True

    def has_covered(self, view: str, needs: Needs) -> bool:
        """Whether that is known without a look at the view."""
        if not needs:
            return True
        watched = self._views.get(view)
        if watched is None or self._clock.monotonic_s() - watched.seen_s >= self._seen_s:
            return False
        return _covered(watched.seen, needs)

    async def close(self) -> None:
        pollers = [watched.poller for watched in self._views.values() if watched.poller]
        for poller in pollers:
            poller.cancel()
        await asyncio.gather(*pollers, return_exceptions=True)

    async def _poll(self, view: str, watched: _Watched) -> None:
        try:
            while watched.waiting:
                metrics.POSITION_POLLS.labels(view).inc()
                try:
                    stored = await self._store.positions(view)
                except StoreUnavailable:
                    stored = {}
                if stored:
                    watched.seen = {key: row.position for key, row in stored.items()}
                    watched.seen_s = self._clock.monotonic_s()
                for future, needs in list(watched.waiting.items()):
                    if not future.done() and stored and _covered(watched.seen, needs):
                        future.set_result(None)
                        del watched.waiting[future]
                if watched.waiting:
                    await self._clock.sleep(self._poll_s)
        finally:
            watched.poller = None


def _covered(seen: Mapping[tuple[str, int], int], needs: Needs) -> bool:
    return all(seen.get(key, 0) >= number for key, number in needs.items())
