"""Which bytes go, and which never do: the sweeper on the twins and a clock that is moved."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from millrace.clock import ManualClock
from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.ids import IdMint
from millrace.log.codec import decode
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of
from millrace.settings import Settings
from millrace.stores.changes import Batch, Move
from millrace.stores.memory import MemoryStore
from millrace.stores.objects import ObjectInfo, ObjectStore, object_key
from millrace.views import media
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.media_pb2 import MediaDeleted, MediaEvent, MediaUploaded
from streams.sweeper import Sweeper, Swept

LIMITS = Settings(
    objects_url="memory://", orphan_ratio_objects=3, orphan_ratio_max=0.5, sweep_wait_s=1
)
OLD_MS = (LIMITS.orphan_age_s + 1) * 1000
AUTHOR = 1
LOG_ID = 9


class StampedObjects(ObjectStore):
    """An object store whose times are those of the test's clock."""

    clock: ManualClock
    modified_ms: dict[str, int]
    # A deletion waits for the gate, where there is one, and says so.
    gate: asyncio.Event | None = None
    held: asyncio.Event

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> None:
        await super().put(key, data)
        self.modified_ms[key] = self.clock.now_ms()

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        async for found in super().list(prefix):
            yield ObjectInfo(found.key, found.size_bytes, self.modified_ms[found.key])

    async def delete(self, key: str) -> None:
        if self.gate is not None:
            self.held.set()
            await self.gate.wait()
        await super().delete(key)

    async def keys(self) -> set[str]:
        return {found.key async for found in self.list()}


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(partitions=2, clock=self.clock)
        self.views = MemoryStore()
        self.objects = StampedObjects.open(LIMITS)
        self.objects.clock, self.objects.modified_ms = self.clock, {}
        self.objects.held = asyncio.Event()
        self.ids = IdMint(self.clock)
        self.sweeper = Sweeper(self.objects, self.views, self.log, self.clock, LIMITS)

    async def bytes_of(self, media_id: int = 0) -> tuple[int, str]:
        """New bytes, and the id and key that they have."""
        media_id = media_id or self.ids.mint(0)
        key = object_key(media_id)
        await self.objects.put(key, b"bytes")
        return media_id, key

    async def say(self, media_id: int, key: str) -> MediaEvent:
        uploaded = MediaUploaded(
            media_id=media_id,
            author_id=AUTHOR,
            request_id=key[-16:].encode(),
            object_key=key,
        )
        event = MediaEvent(uploaded=uploaded)
        await self.log.append("media", key_of(AUTHOR), event.SerializeToString())
        return event

    async def uploaded(self) -> tuple[int, str]:
        media_id, key = await self.bytes_of()
        await self.say(media_id, key)
        return media_id, key

    async def delete(self, media_id: int) -> None:
        event = MediaEvent(deleted=MediaDeleted(media_id=media_id, author_id=AUTHOR))
        await self.log.append("media", key_of(AUTHOR), event.SerializeToString())

    async def project(self) -> None:
        """The media view takes all that is in the log."""
        positions = await self.views.positions(media.VIEW.name)
        reader = self.log.reader({key: row.position for key, row in positions.items()})
        while records := await reader.batch(1, 0.001):
            (record,) = records
            start = positions[record.topic, record.partition].position
            move = Move(record.topic, record.partition, start, record.number)
            changes = list(media.project(decode(record)))
            await self.views.apply(media.VIEW.schema, Batch(media.VIEW.name, (move,), changes))
            positions = await self.views.positions(media.VIEW.name)
        await reader.close()

    async def sweep_later(self) -> Swept:
        self.clock.advance(OLD_MS)
        return await self.sweeper.sweep()


@pytest.fixture
async def scene() -> Scene:
    made = Scene()
    await made.views.open_view(media.VIEW.schema, {"media": 2}, LOG_ID)
    return made


async def test_an_orphan_goes_and_what_is_named_stays(scene: Scene) -> None:
    _, named = await scene.uploaded()
    _, orphan = await scene.bytes_of()
    await scene.project()
    assert await scene.sweep_later() == Swept(kept=1, deleted=1, strangers=1)
    assert await scene.objects.keys() == {named}
    assert orphan != named
    assert await scene.sweeper.sweep() == Swept(kept=1)


async def test_a_young_orphan_stays(scene: Scene) -> None:
    await scene.bytes_of()
    scene.clock.advance(LIMITS.orphan_age_s * 1000)
    assert await scene.sweeper.sweep() == Swept(young=1)
    scene.clock.advance(1)
    assert (await scene.sweeper.sweep()).deleted == 1


async def test_a_store_whose_clock_is_behind_ends_no_young_bytes(scene: Scene) -> None:
    _, key = await scene.bytes_of()
    scene.objects.modified_ms[key] = 0
    assert await scene.sweeper.sweep() == Swept(young=1)


async def test_bytes_of_another_try_at_the_same_id_go(scene: Scene) -> None:
    media_id, named = await scene.uploaded()
    await scene.bytes_of(media_id)
    await scene.project()
    swept = await scene.sweep_later()
    assert (swept.kept, swept.deleted, swept.strangers) == (1, 1, 0)
    assert await scene.objects.keys() == {named}


async def test_bytes_of_deleted_media_go(scene: Scene) -> None:
    media_id, _ = await scene.uploaded()
    _, other = await scene.uploaded()
    await scene.delete(media_id)
    await scene.project()
    assert await scene.sweep_later() == Swept(kept=1, deleted=1)
    assert await scene.objects.keys() == {other}


async def test_nothing_goes_while_the_view_is_behind(scene: Scene) -> None:
    _, named = await scene.uploaded()
    _, orphan = await scene.bytes_of()
    with pytest.raises(FailedPrecondition) as refused:
        await scene.sweep_later()
    assert refused.value.reason == "VIEW_BEHIND"
    assert await scene.objects.keys() == {named, orphan}
    await scene.project()
    await scene.sweeper.sweep()
    assert await scene.objects.keys() == {named}


async def test_nothing_goes_while_the_view_is_not_there(scene: Scene) -> None:
    """A database that is empty covers nothing, even where the log is empty too."""
    scene.sweeper = Sweeper(scene.objects, MemoryStore(), scene.log, scene.clock, LIMITS)
    await scene.bytes_of()
    with pytest.raises(FailedPrecondition):
        await scene.sweep_later()


async def test_nothing_goes_while_the_view_is_put_back_and_catches_up(scene: Scene) -> None:
    _, named = await scene.uploaded()
    await scene.project()
    empty = MemoryStore()

    async def get_many_while_back(*args: object) -> object:
        await scene.views.raise_epoch(media.VIEW.name)
        return await MemoryStore.get_many(empty, *args)  # type: ignore[arg-type]

    scene.views.get_many = get_many_while_back  # type: ignore[assignment]
    with pytest.raises(FailedPrecondition):
        await scene.sweep_later()
    assert await scene.objects.keys() == {named}


async def test_an_event_that_comes_while_objects_are_listed_is_waited_for(scene: Scene) -> None:
    """The ends are asked after the listing, so an upload is seen or its bytes are young."""
    media_id, key = await scene.bytes_of()
    scene.clock.advance(OLD_MS)
    listed = scene.objects.list

    async def list_then_say(prefix: str = "") -> AsyncIterator[ObjectInfo]:
        async for found in listed(prefix):
            yield found
        if prefix == "originals/":
            await scene.say(media_id, key)

    scene.objects.list = list_then_say  # type: ignore[method-assign]
    with pytest.raises(FailedPrecondition):
        await scene.sweeper.sweep()
    await scene.project()
    scene.objects.list = listed  # type: ignore[method-assign]
    assert (await scene.sweeper.sweep()).kept == 1


@pytest.mark.parametrize("steps", range(4))
async def test_an_upload_under_way_is_never_hit(scene: Scene, steps: int) -> None:
    """Sweeps at every step of an upload that takes as long as it may."""
    media_id, key = await scene.bytes_of()
    for step in range(4):
        scene.clock.advance(LIMITS.upload_deadline_s * 1000 // 4)
        if step == steps:
            assert (await scene.sweeper.sweep()).deleted == 0
    await scene.say(media_id, key)
    await scene.project()
    assert (await scene.sweep_later()).kept == 1


async def test_what_a_dead_letter_names_stays(scene: Scene) -> None:
    media_id, key = await scene.bytes_of()
    _, orphan = await scene.bytes_of()
    uploaded = MediaUploaded(media_id=media_id, author_id=AUTHOR, object_key=key)
    letter = DeadLetter(value=MediaEvent(uploaded=uploaded).SerializeToString())
    for value in (b"\xff no letter", DeadLetter(value=b"\xff").SerializeToString()):
        await scene.log.append("media.dead", b"", value)
    await scene.log.append("media.dead", b"", letter.SerializeToString())
    assert (await scene.sweep_later()).deleted == 1
    assert await scene.objects.keys() == {key}
    assert orphan != key


async def test_where_most_are_strangers_nothing_goes(scene: Scene) -> None:
    for _ in range(4):
        await scene.bytes_of()
    for _ in range(3):
        await scene.uploaded()
    await scene.project()
    with pytest.raises(FailedPrecondition) as refused:
        await scene.sweep_later()
    assert refused.value.reason == "TOO_MANY_STRANGERS"
    assert len(await scene.objects.keys()) == 7
    await scene.uploaded()
    await scene.project()
    assert (await scene.sweep_later()).deleted == 4


async def test_many_objects_are_swept_in_pages(scene: Scene) -> None:
    for _ in range(1_050):
        await scene.uploaded()
    await scene.bytes_of()
    await scene.project()
    swept = await scene.sweep_later()
    assert (swept.kept, swept.deleted) == (1_050, 1)


async def test_half_written_files_go(scene: Scene) -> None:
    await scene.objects.put("staging/half", b"half")
    assert (await scene.sweeper.sweep()).deleted == 0
    assert (await scene.sweep_later()).deleted == 1


def test_orphans_must_outlive_uploads() -> None:
    with pytest.raises(ValueError, match="orphan_age_s"):
        Settings(orphan_age_s=700, upload_deadline_s=120, orphan_margin_s=600)


async def test_a_slow_sweep_deletes_what_is_old_and_what_came_meanwhile_stays(scene: Scene) -> None:
    """It looks at one object after another; uploads and the view go on, and wait for nothing."""
    _, named = await scene.uploaded()
    orphans = {(await scene.bytes_of())[1] for _ in range(2)}
    await scene.project()
    scene.clock.advance(OLD_MS)
    scene.objects.gate = asyncio.Event()
    sweeping = asyncio.create_task(scene.sweeper.sweep())
    await scene.objects.held.wait()
    _, meanwhile = await scene.uploaded()
    await scene.project()
    assert await scene.objects.keys() == {named, meanwhile, *orphans}
    assert not sweeping.done()
    scene.objects.gate.set()
    assert await sweeping == Swept(kept=1, deleted=2, strangers=2)
    assert await scene.objects.keys() == {named, meanwhile}


async def test_a_sweep_by_a_store_that_does_not_answer_ends_and_the_next_one_sweeps(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.bytes_of()
    scene.clock.advance(OLD_MS)
    monkeypatch.setattr(scene.objects, "_timeout_s", 0.0)
    with pytest.raises(StoreUnavailable):
        await scene.sweeper.sweep()
    monkeypatch.undo()
    assert await scene.sweeper.sweep() == Swept(deleted=1, strangers=1)
