"""Faults on the real servers, and afterwards: the views equal what the log says.

A PostgreSQL put back to an older base backup, a poison record, a poison value, a clash of ids.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local import binaries
from deploy.local.child import run
from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import StackStatus
from millrace.auth.sealing import open_secret, seal_text
from millrace.client import Session
from millrace.clock import SystemClock
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.views import media
from millrace.views.data_keys import DataKeys
from social.log.v1.media_pb2 import MEDIA_KIND_JPEG, CaptionText, MediaEvent, MediaUploaded
from streams.progress import published
from tests.replayed import differences, replay
from tests.running import PASSWORD, RunningMillrace, running, running_millrace
from tests.system.test_main_job import follow, like, picture

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(240)


async def equal(millrace: RunningMillrace, *, dead: int) -> None:
    """The views equal a replay of the log in which `dead` events stay out."""
    await millrace.process_all()
    views, log = millrace.stores.views, millrace.stores.log
    log_id = (await views.positions("likes"))["likes", 0].log_id
    replayed, found_dead = await replay(log, millrace.keys, log_id)
    assert await differences(views, replayed) == []
    assert found_dead == dead


async def some_life(millrace: RunningMillrace, *names: str) -> list[Session]:
    """People who register, follow the first of them, who uploads; and like it."""
    client = millrace.client
    people = [await client.register(name, PASSWORD, name.title()) for name in names]
    item = await client.upload(people[0], picture(len(names)), "hello")
    for person in people[1:]:
        await follow(client, person, people[0].user_id)
        await like(client, person, item.id)
    return people


async def test_poison_goes_to_dead_letters_and_the_rest_goes_on(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    log = millrace.stores.log
    ana, ben = await some_life(millrace, "ana", "ben")
    # A record that is no event, and an event with a value that PostgreSQL refuses.
    await log.append("likes", key_of(ben.user_id), b"\xff\xff not an event")
    data_keys = DataKeys(
        millrace.stores.views,
        log,
        SystemClock(),
        lambda key, box: open_secret(millrace.keys.master, key, box),
        cached_max=10,
        wait_s=5.0,
    )
    data_key = await data_keys.of(ana.user_id)
    assert data_key is not None
    poison = MediaUploaded(
        media_id=77,
        author_id=ana.user_id,
        request_id=bytes(16),
        body_sha256=bytes(32),
        kind=MEDIA_KIND_JPEG,
        sealed=seal_text(data_key, ana.user_id, CaptionText(caption="a \0 byte")),
    )
    value = MediaEvent(uploaded=poison).SerializeToString()
    await log.append("media", key_of(ana.user_id), value)

    item = await millrace.client.upload(ana, picture(9), "after the poison")
    await like(millrace.client, ben, item.id)
    await equal(millrace, dead=2)
    history = await millrace.history()
    letters = {topic: count for topic, count in history.dead_letters.items() if count}
    assert letters == {"likes.dead": 1, "media.dead": 1}
    assert 77 not in await media.by_id(millrace.stores.views, [77, item.id])


async def test_of_two_media_with_one_id_the_first_stays(running_millrace: RunningMillrace) -> None:
    millrace = running_millrace
    letters = (await millrace.history()).dead_letters
    log = millrace.stores.log
    people = await some_life(millrace, *(f"clash{number}" for number in range(6)))
    by_partition: dict[int, list[int]] = {}
    for person in people:
        partition = partition_of_owner(person.user_id, log.partitions)
        by_partition.setdefault(partition, []).append(person.user_id)
    first, second = next(ids for ids in by_partition.values() if len(ids) > 1)[:2]
    for author in (first, second, first):
        event = MediaUploaded(
            media_id=555, author_id=author, request_id=author.to_bytes(16, "big"), object_key="x"
        )
        value = MediaEvent(uploaded=event).SerializeToString()
        await log.append("media", key_of(author), value)
    await equal(millrace, dead=sum(letters.values()))
    views = millrace.stores.views
    assert (await media.by_id(views, [555]))[555].author_id == first
    assert await media.MEDIA.claimed_by(views, second, second.to_bytes(16, "big")) is None


@asynccontextmanager
async def own_postgres(folder: Path) -> AsyncIterator[LocalStack]:
    settings = StackSettings(folder, servers=("postgres",), usual_ports=False)
    async with LocalStack(settings) as own:
        yield own


async def test_a_postgresql_put_back_to_an_older_backup_catches_up(
    stack: StackStatus, data_dir: Path, tmp_path: Path
) -> None:
    async with (
        own_postgres(data_dir) as own,
        running(stack, tmp_path, postgres_dsn=str(own.addresses["postgres_dsn"])) as millrace,
    ):
        ana, *_ = await some_life(millrace, "ana", "ben")
        await millrace.process_all()
        server = data_dir / "postgres"
        user = (server / "data").stat().st_uid
        bin_folder = binaries.postgres_bin()
        assert bin_folder is not None
        backup = (server / "backup").resolve()
        argv = (
            *(str(bin_folder / "pg_basebackup"), "-D", str(backup)),
            *("-d", str(own.addresses["postgres_dsn"]), "-X", "stream", "-c", "fast"),
        )
        await run(argv, tmp_path / "backup.log", user=user)

        later = await some_life(millrace, "cleo", "dora")
        await like(
            millrace.client, ana, (await millrace.client.upload(later[0], picture(3), "")).id
        )
        await millrace.process_all()
        before = await millrace.stores.views.positions("likes")

        await own.stop_child("postgres")
        shutil.rmtree((server / "data").resolve())
        backup.rename(server / "data")
        await own.start_child("postgres")

        await equal(millrace, dead=0)
        after = await millrace.stores.views.positions("likes")
        assert {key: row.position for key, row in after.items()} == {
            key: row.position for key, row in before.items()
        }
        raised = await epoch_above(millrace, "likes", before["likes", 0].epoch)
        assert raised == max(row.epoch for row in after.values())


async def epoch_above(millrace: RunningMillrace, view: str, epoch: int) -> int:
    """The view's published epoch, once it is above the given one."""
    while (found := (await published(millrace.stores.log))[view].epoch) <= epoch:
        await asyncio.sleep(0)
    return found
