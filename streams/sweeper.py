"""Ends bytes that no media item names: uploads that never became an event, and deleted media.

An object is looked at when it is older than any upload can be (`orphan_age_s`). First it is
listed, then the ends of the log are asked, then the media view has to cover them: an event that
names the object is older than those ends, so the view holds it now or it never was. The object
stays if its item stands and names exactly this key, or if a dead letter names it (which may be
tried again). A crash in between loses nothing; two sweepers do the same work twice.

Where most objects are strangers to the view, store and log do not belong together: nothing goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from millrace.clock import Clock
from millrace.errors import FailedPrecondition, MillraceError
from millrace.ids import MediaId, minted_ms
from millrace.log.port import Log
from millrace.log.topics import DEAD_SUFFIX
from millrace.observe import logs, metrics
from millrace.relations.entity import READ_KEYS_MAX
from millrace.settings import Settings
from millrace.stores.fold import Row
from millrace.stores.objects import ORIGINALS, ObjectInfo, ObjectStore, media_id_of
from millrace.stores.objects_local import STAGING
from millrace.stores.port import ViewStore
from millrace.views.media import MEDIA, VIEW
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.media_pb2 import MediaEvent
from streams.process import StreamParts, run

_TOPIC = "media"
_DEAD = _TOPIC + DEAD_SUFFIX
_PAGE_OBJECTS = 1_000
_DEAD_AT_ONCE = 1_000
_POLL_S = 0.2

logger = logs.logger("streams.sweeper")


@dataclass(slots=True)
class Swept:
    """Objects by what became of them. `strangers`: those whose item the view never knew."""

    kept: int = 0
    young: int = 0
    deleted: int = 0
    strangers: int = 0


class Sweeper:
    """Takes stores, log and clock as arguments, so that a simulator can drive it."""

    def __init__(
        self, objects: ObjectStore, store: ViewStore, log: Log, clock: Clock, settings: Settings
    ) -> None:
        self._objects = objects
        self._store = store
        self._log = log
        self._clock = clock
        self._settings = settings

    async def sweep(self) -> Swept:
        """One look at all objects.

        Raises FailedPrecondition when the view does not come far enough in `sweep_wait_s`
        (VIEW_BEHIND), or knows too few of the objects (TOO_MANY_STRANGERS), StoreUnavailable
        when a store does not answer. What was deleted until then was rightly deleted.
        """
        swept = Swept()
        page: list[ObjectInfo] = []
        async for found in self._objects.list(ORIGINALS):
            if not self._is_old(found):
                swept.young += 1
                continue
            page.append(found)
            if len(page) == _PAGE_OBJECTS:
                await self._sweep_page(page, swept)
                page = []
        if page:
            await self._sweep_page(page, swept)
        await self._sweep_staging(swept)
        return swept

    def _is_old(self, found: ObjectInfo) -> bool:
        """By the store's clock, and by the id's where there is one."""
        before_ms = self._clock.now_ms() - self._settings.orphan_age_s * 1000
        media_id = media_id_of(found.key)
        minted = minted_ms(media_id) if media_id is not None else found.modified_ms
        return max(found.modified_ms, minted) < before_ms

    async def _sweep_page(self, page: Sequence[ObjectInfo], swept: Swept) -> None:
        ends, epochs = await self._wait_for_view()
        rows = await self._rows(page)
        if await self._epochs_covering(ends) != epochs:
            # It went back (a restore, a promotion) while it was read, maybe for a moment only.
            raise _view_is_behind()
        unwanted = [found for found in page if not _is_wanted(found.key, rows)]
        dead = await self._named_by_dead_letters() if unwanted else set()
        unwanted = [found for found in unwanted if found.key not in dead]
        swept.strangers += sum(media_id_of(found.key) not in rows for found in unwanted)
        swept.kept += len(page) - len(unwanted)
        self._check_strangers(swept, swept.kept + swept.deleted + len(unwanted))
        for found in unwanted:
            await self._objects.delete(found.key)
            swept.deleted += 1

    async def _wait_for_view(self) -> tuple[list[int], set[int]]:
        """Until the media view covers the log's present ends; these, and the view's epochs."""
        ends = await self._log.ends(_TOPIC)
        deadline_s = self._clock.monotonic_s() + self._settings.sweep_wait_s
        while not (epochs := await self._epochs_covering(ends)):
            if self._clock.monotonic_s() >= deadline_s:
                raise _view_is_behind()
            await self._clock.sleep(_POLL_S)
        return ends, epochs

    async def _epochs_covering(self, ends: Sequence[int]) -> set[int]:
        """Those of the view's positions; empty when one of them does not cover its end."""
        stored = await self._store.positions(VIEW.name)
        covering = all(
            (_TOPIC, partition) in stored and stored[_TOPIC, partition].position >= end
            for partition, end in enumerate(ends)
        )
        return {row.epoch for row in stored.values()} if covering else set()

    async def _rows(self, page: Sequence[ObjectInfo]) -> dict[MediaId | None, Row]:
        """The items of these objects as far as the view has known them, ended ones too."""
        ids = list(dict.fromkeys(one for found in page if (one := media_id_of(found.key))))
        rows: dict[MediaId | None, Row] = {}
        for at in range(0, len(ids), READ_KEYS_MAX):
            some = ids[at : at + READ_KEYS_MAX]
            read = await MEDIA.get_many_ended_too(self._store, [(one,) for one in some])
            rows.update({one: read[one,] for one in some if (one,) in read})
        return rows

    async def _named_by_dead_letters(self) -> set[str]:
        """Keys of objects in events that the view could not take so far: few, or it stops."""
        ends = await self._log.ends(_DEAD)
        left = {(_DEAD, partition): end for partition, end in enumerate(ends) if end}
        keys: set[str] = set()
        if not left:
            return keys
        reader = self._log.reader(dict.fromkeys(left, 0))
        try:
            while left:
                records = await reader.batch(_DEAD_AT_ONCE, self._settings.sweep_wait_s)
                if not records:
                    raise FailedPrecondition("dead letters cannot be read", reason="VIEW_BEHIND")
                for record in records:
                    keys.add(_object_key_of(record.value or b""))
                    if record.number >= left.get((_DEAD, record.partition), 0):
                        left.pop((_DEAD, record.partition), None)
        finally:
            await reader.close()
        return keys

    def _check_strangers(self, swept: Swept, seen: int) -> None:
        most = max(self._settings.orphan_ratio_objects, self._settings.orphan_ratio_max * seen)
        if swept.strangers > most:
            raise FailedPrecondition(
                f"{swept.strangers} of {seen} objects are of items that the media view never knew:"
                " do objects and log belong together?",
                reason="TOO_MANY_STRANGERS",
            )

    async def _sweep_staging(self, swept: Swept) -> None:
        """Files that a killed process has left half written; nothing ever names them."""
        async for found in self._objects.list(STAGING):
            if self._is_old(found):
                await self._objects.delete(found.key)
                swept.deleted += 1


def _view_is_behind() -> FailedPrecondition:
    return FailedPrecondition("the media view is behind the log", reason="VIEW_BEHIND")


def _is_wanted(key: str, rows: dict[MediaId | None, Row]) -> bool:
    row = rows.get(media_id_of(key))
    return row is not None and not row.ended and row.values["object_key"] == key


def _object_key_of(letter: bytes) -> str:
    """Empty where the letter's event names no object."""
    try:
        return MediaEvent.FromString(DeadLetter.FromString(letter).value).uploaded.object_key
    except DecodeError:
        return ""


async def main(parts: StreamParts) -> None:
    settings = parts.settings
    objects = ObjectStore.open(settings)
    sweeper = Sweeper(objects, parts.views, parts.log, parts.clock, settings)
    parts.ready = True
    while True:
        try:
            swept = await sweeper.sweep()
        except MillraceError as error:
            metrics.SWEEPS.labels("failed").inc()
            logger.warning("not swept", reason=error.reason, why=error.message)
        else:
            metrics.SWEEPS.labels("done").inc()
            metrics.OBJECTS_SWEPT.inc(swept.deleted)
            logger.info("swept", kept=swept.kept, young=swept.young, deleted=swept.deleted)
        await parts.clock.sleep(settings.sweep_interval_s)


if __name__ == "__main__":
    run("sweeper", main)
