"""A view that goes back: seen by every projector, once told an epoch higher."""

from functools import partial

import pytest

from millrace.clock import ManualClock
from millrace.log.control import Control
from millrace.log.memory import MemoryLog, MemoryReader
from millrace.log.port import Record
from millrace.stores.changes import Batch, Move
from millrace.stores.memory import MemoryStore
from millrace.views import likes
from streams.progress import Progress, Published, published
from tests.histories import PARTITIONS

VIEW = likes.VIEW


class Server:
    """A store that is put back to what it was."""

    def __init__(self) -> None:
        self.log = MemoryLog(PARTITIONS, ManualClock())
        self.store = MemoryStore()

    async def open(self) -> None:
        await self.store.open_view(VIEW.schema, {"likes": PARTITIONS}, log_id=1)

    async def move(self, start: int, end: int) -> None:
        moves = tuple(Move("likes", one, start, end) for one in range(PARTITIONS))
        await self.store.apply(VIEW.schema, Batch(VIEW.name, moves, []))

    async def put_back(self, position: int, epoch: int = 1) -> None:
        """To a backup of this position and epoch."""
        self.store = MemoryStore()
        await self.open()
        if epoch > 1:
            await self.store.raise_epoch(VIEW.name, at_least=epoch)
        if position:
            await self.move(0, position)

    async def epochs(self) -> tuple[int, int]:
        """In the server's rows, and in `control`."""
        rows = await self.store.positions(VIEW.name)
        control = Control(self.log)
        await control.catch_up()
        return max(row.epoch for row in rows.values()), control.epoch(VIEW.name)


@pytest.fixture
async def server() -> Server:
    server = Server()
    await server.open()
    await server.move(0, 9)
    return server


def watching(server: Server) -> Progress:
    return Progress(VIEW, server.store, server.log)


async def test_what_goes_on_keeps_its_epoch(server: Server) -> None:
    progress = watching(server)
    assert not await progress.look()
    await server.move(9, 12)
    assert not await progress.look()
    assert await server.epochs() == (1, 1)
    (topic,) = (await published(server.log))[VIEW.name].topics
    assert list(topic.numbers) == [12] * PARTITIONS


async def test_every_projector_is_told_that_the_view_went_back(server: Server) -> None:
    one, other = watching(server), watching(server)
    assert not await one.look()
    assert not await other.look()
    await server.put_back(4)
    one.store = other.store = server.store
    assert await one.look()
    assert await other.look()
    assert await server.epochs() == (2, 2)
    assert not await one.look()
    assert not await other.look()


async def test_two_projectors_that_see_it_at_once_agree_on_the_epoch(server: Server) -> None:
    one, other = watching(server), watching(server)
    await one.look()
    await other.look()
    await server.put_back(4)
    one.store = other.store = server.store
    seen = await server.store.positions(VIEW.name)
    await one._raise_epoch(seen)
    await other._raise_epoch(seen)
    in_rows, in_control = await server.epochs()
    assert in_rows == in_control
    assert await one.look()
    assert await other.look()


async def test_a_backup_from_before_the_last_step_back_is_one_more(server: Server) -> None:
    progress = watching(server)
    await progress.look()
    await server.put_back(2)
    progress.store = server.store
    assert await progress.look()
    # A newer backup, though of the first epoch: further than what the second one has reached.
    await server.put_back(7)
    progress.store = server.store
    assert await progress.look()
    assert await server.epochs() == (3, 3)


async def test_a_process_that_starts_knows_what_was_published(server: Server) -> None:
    await watching(server).look()
    await server.put_back(4)
    starting = Progress(VIEW, server.store, server.log, (await published(server.log))[VIEW.name])
    await starting.look()
    assert await server.epochs() == (2, 2)


async def test_what_another_saw_of_the_view_was_lost_as_well(server: Server) -> None:
    """One saw 9, the other 12; the view is put back to 9."""
    one, other = watching(server), watching(server)
    one.others = Published(server.log)
    await one.look()
    await server.move(9, 12)
    await other.look()
    await server.put_back(9)
    one.store = server.store
    assert await one.look_afresh()
    assert await server.epochs() == (2, 2)
    assert not await one.look_afresh()


async def test_who_was_paused_and_tells_late_what_it_saw_hides_nothing(server: Server) -> None:
    paused, other = watching(server), watching(server)
    await paused.look()
    early = paused.published
    await server.move(9, 12)
    await other.look()
    assert early is not None
    await server.log.append("progress", b"likes", early.SerializeToString(), partition=0)
    (topic,) = (await published(server.log))[VIEW.name].topics
    assert list(topic.numbers) == [12] * PARTITIONS


class SlowReader(MemoryReader):
    """Has nothing in time at first, as a broker that is busy."""

    empty = 2

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        if self.empty:
            self.empty -= 1
            return []
        return await super().batch(records_max, wait_s)


async def test_a_slow_broker_makes_nobody_forget_what_was_published(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watching(server).look()
    monkeypatch.setattr(server.log, "reader", partial(SlowReader, server.log))
    assert VIEW.name in await published(server.log)
