"""The audit itself: slice by slice a look, and for what differs a second one of these keys alone,
from the log's start, so that nothing is told that was only late.

Takes log, stores and clock as arguments and does no I/O of its own.
"""

from collections.abc import Collection

from streams.audit.difference import Difference, Finding
from streams.audit.feed_look import FEED, FeedLook
from streams.audit.keys import HASHES, Keys
from streams.audit.look import Bounds, Sources, look
from streams.audit.owed import OWED, look_for_owed
from streams.audit.relation_look import COUNTS, EDGES, RelationLook

CHECKS = (COUNTS, EDGES, FEED)


class Told:
    """What an audit says while it runs; says nothing unless it is overridden."""

    def doing(self, text: str, done: float) -> None:
        """What is done now, and which part of the keys is behind it."""

    def differs(self, difference: Difference) -> None:
        """Looked at twice."""


class Audit:
    """One run. `sample`: how many keys of each kind are looked at; 0 for all, and then also what
    is served for keys that the log never named.
    """

    def __init__(
        self, sources: Sources, bounds: Bounds, told: Told, *, sample: int = 0, seed: int = 0
    ) -> None:
        self._sources = sources
        self._bounds = bounds
        self._told = told
        self._sample = sample
        self._seed = seed

    async def run(self, checks: Collection[str]) -> list[Finding]:
        """A row a relation. Raises StoreUnavailable when something does not answer, or does not
        catch up in time.
        """
        findings: list[Finding] = []
        if COUNTS in checks or EDGES in checks:
            for name in ("users", "media"):
                findings += await self._slices(RelationLook(name, checks))
        if FEED in checks:
            findings += await self._slices(FeedLook())
        return findings

    async def _slices(self, subject: RelationLook | FeedLook) -> list[Finding]:
        rows = {pair: Finding(*pair) for pair in subject.pairs()}
        owed = Finding(FEED, OWED)
        low, left = 0, self._sample
        while low < HASHES:
            keys_max = self._bounds.keys_max
            keys_max = min(left, keys_max) if self._sample else keys_max
            keys = Keys(seed=self._seed, low=low, keys_max=keys_max)
            position = await self._slice(subject, keys, rows)
            for row in rows.values():
                row.examined += len(keys)
                row.position = position
            if isinstance(subject, FeedLook):
                await self._owed(keys, owed)
            low, left = keys.high, left - len(keys)
            if self._sample and left <= 0:
                break
        return [*rows.values(), *([owed] if isinstance(subject, FeedLook) else [])]

    async def _slice(
        self, subject: RelationLook | FeedLook, keys: Keys, rows: dict[tuple[str, str], Finding]
    ) -> str:
        """Both looks; returns the position of the last one."""
        position, found = await self._look(subject, keys, strays=not self._sample)
        if found:
            await self._sources.clock.sleep(self._bounds.again_s)
            chosen = {one.key for one in found}
            again = Keys(seed=self._seed, low=keys.low, keys_max=len(chosen), chosen=chosen)
            position, found = await self._look(subject, again, strays=False)
        for difference in found:
            rows[difference.check, difference.relation].differences += 1
            self._told.differs(difference)
        return position

    async def _owed(self, keys: Keys, row: Finding) -> None:
        """Of the posts of the slice's users."""
        self._told.doing("reading the rows that are owed", keys.low / HASHES)
        examined, position, missing = await look_for_owed(keys, self._sources, self._bounds)
        row.examined += examined
        row.position = position
        row.differences += len(missing)
        for difference in missing:
            self._told.differs(difference)

    async def _look(
        self, subject: RelationLook | FeedLook, keys: Keys, *, strays: bool
    ) -> tuple[str, list[Difference]]:
        def doing(text: str) -> None:
            self._told.doing(text, keys.low / HASHES)

        return await look(subject, keys, self._sources, self._bounds, doing, strays=strays)
