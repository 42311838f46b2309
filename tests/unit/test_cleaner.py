"""The worker processes around the decoders: limits, crashes, hangs, cancellation."""

import asyncio
import hashlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable

import psutil
import pytest

from millrace.content import cleaner as cleaner_module
from millrace.content.cleaner import Cleaner, Content
from millrace.content.kind import Kind
from millrace.content.limits import (
    MEDIA_BROKEN,
    MEDIA_TOO_LARGE,
    MEDIA_TYPE_UNSUPPORTED,
)
from millrace.errors import Exhausted, InvalidRequest, StoreUnavailable
from millrace.settings import Settings
from tests.unit.films import film
from tests.unit.pictures import KINDS, SECRET, coded, drawing, exif, full_of_secrets

JPEG = coded(drawing(), "JPEG")


@pytest.fixture
async def cleaner() -> AsyncIterator[Cleaner]:
    made = Cleaner(Settings(uploads_parallel_max=2, uploads_waiting_max=1, clean_jobs_a_worker=4))
    yield made
    await made.close()
    assert made.room.taken_bytes == 0


async def clean(cleaner: Cleaner, data: bytes) -> tuple[Content, bytes]:
    async with cleaner.clean(data) as content:
        return content, b"".join([chunk async for chunk in content.chunks(1000)])


def workers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "millrace.content.worker" in " ".join(child.cmdline())
    ]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_picture_comes_back_clean_and_measured(cleaner: Cleaner, kind: str) -> None:
    content, data = await clean(cleaner, full_of_secrets(kind, 6))
    assert content.kind is Kind[kind.split()[0]]
    assert (content.width, content.height, content.duration_ms) == (32, 48, 0)
    assert content.size_bytes == len(data)
    assert content.sha256 == hashlib.sha256(data).digest()
    assert SECRET.encode() not in data


async def test_a_film_comes_back_clean_and_measured(cleaner: Cleaner) -> None:
    content, data = await clean(cleaner, film(tags=True))
    assert content.kind is Kind.MP4
    assert (content.width, content.height) == (64, 48)
    assert 900 <= content.duration_ms <= 1_200
    assert content.sha256 == hashlib.sha256(data).digest()


async def test_a_refusal_comes_back_with_its_reason_and_the_worker_goes_on(
    cleaner: Cleaner,
) -> None:
    await clean(cleaner, JPEG)
    (worker,) = workers()
    with pytest.raises(InvalidRequest) as refused:
        await clean(cleaner, JPEG[:-10])
    assert refused.value.reason == MEDIA_BROKEN
    await clean(cleaner, JPEG)
    assert [one.pid for one in workers()] == [worker.pid]


async def test_a_worker_retires_after_its_jobs(cleaner: Cleaner) -> None:
    for _ in range(4):
        await clean(cleaner, JPEG)
    assert workers() == []
    await clean(cleaner, JPEG)


async def test_a_worker_that_dies_between_jobs_is_replaced(cleaner: Cleaner) -> None:
    await clean(cleaner, JPEG)
    (worker,) = workers()
    worker.kill()
    await until(lambda: worker.status() == psutil.STATUS_ZOMBIE)
    await clean(cleaner, JPEG)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGSEGV, InvalidRequest),
        (signal.SIGABRT, InvalidRequest),
        (signal.SIGKILL, StoreUnavailable),
    ],
)
async def test_a_crash_is_the_files_fault_unless_somebody_killed(
    cleaner: Cleaner, number: signal.Signals, error: type[Exception]
) -> None:
    """The worker is stopped first, so that it certainly has not answered yet."""
    await clean(cleaner, JPEG)
    (worker,) = workers()
    worker.suspend()
    cleaning = asyncio.create_task(clean(cleaner, JPEG))
    await until(lambda: not cleaner._idle)
    worker.send_signal(number)
    worker.resume()
    with pytest.raises(error):
        await cleaning
    await clean(cleaner, JPEG)


async def test_a_hang_ends_with_the_time_limit() -> None:
    cleaner = Cleaner(Settings(clean_timeout_s=0.3))
    # Starting takes its time too, so a worker has to be there.
    cleaner._idle.append(worker := cleaner._worker())
    psutil.Process(worker.pid).suspend()
    with pytest.raises(InvalidRequest) as refused:
        await clean(cleaner, JPEG)
    assert refused.value.reason == MEDIA_BROKEN
    assert not psutil.pid_exists(worker.pid)


async def test_a_cancelled_upload_ends_its_worker(cleaner: Cleaner) -> None:
    await clean(cleaner, JPEG)
    (worker,) = workers()
    worker.suspend()
    cleaning = asyncio.create_task(clean(cleaner, JPEG))
    await until(lambda: not cleaner._idle)
    cleaning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    await until(lambda: workers() == [])
    await clean(cleaner, JPEG)


async def test_more_than_may_wait_are_told_to_come_again(cleaner: Cleaner) -> None:
    jobs = [asyncio.create_task(clean(cleaner, JPEG)) for _ in range(12)]
    ends = await asyncio.gather(*jobs, return_exceptions=True)
    busy = [end for end in ends if isinstance(end, Exhausted)]
    assert {end.reason for end in busy} == {"UPLOADS_BUSY"}
    assert len(busy) < 12
    assert all(isinstance(end, tuple | Exhausted) for end in ends)
    assert len(workers()) <= 2


async def test_a_decoder_that_wants_too_much_memory_is_refused() -> None:
    """Between what the libraries take by themselves, other in each Python, and what this needs."""
    picture = coded(drawing(5_000, 5_000), "PNG", exif=exif(6))
    cleaner = Cleaner(Settings(clean_memory_bytes_max=320 * 1024 * 1024))
    await clean(cleaner, JPEG)
    with pytest.raises(InvalidRequest) as refused:
        await clean(cleaner, picture)
    assert refused.value.reason == MEDIA_BROKEN
    await cleaner.close()


async def test_a_full_disk_is_not_the_files_fault(
    cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        tempfile.TemporaryFile() as spool,
        open("/dev/full", "r+b", buffering=0) as out,
        monkeypatch.context() as patched,
    ):
        opened = iter((spool, out))
        patched.setattr(tempfile, "TemporaryFile", lambda **_: next(opened))
        with pytest.raises(StoreUnavailable, match="No space left"):
            await clean(cleaner, JPEG)
    before = workers()
    await clean(cleaner, JPEG)
    assert workers() == before


async def test_a_spool_without_a_folder_is_unavailable(tmp_path: os.PathLike[str]) -> None:
    nowhere = Cleaner(Settings(spool_dir=f"{os.fspath(tmp_path)}/gone"))
    with pytest.raises(StoreUnavailable):
        await clean(nowhere, JPEG)
    assert nowhere.room.taken_bytes == 0


async def test_workers_inherit_nothing(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    await clean(cleaner, JPEG)
    (worker,) = workers()
    assert set(worker.environ()) <= {"PYTHONPATH", "LC_CTYPE"}
    assert worker.num_fds() == 4


async def test_workers_have_no_part_in_the_servers_priority(cleaner: Cleaner) -> None:
    """A session of their own: among sessions the cores are divided first (services/priority.py)."""
    await clean(cleaner, JPEG)
    (worker,) = workers()
    assert os.getsid(worker.pid) == worker.pid
    assert worker.nice() >= 0


async def test_workers_of_a_server_of_first_turn_have_none(cleaner: Cleaner) -> None:
    first = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
    try:
        os.sched_setscheduler(0, os.SCHED_RR, first)
    except PermissionError:
        pytest.skip("real time wants root, or CAP_SYS_NICE")
    try:
        await clean(cleaner, JPEG)
        (worker,) = workers()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert os.sched_getscheduler(worker.pid) == os.SCHED_OTHER


async def test_no_worker_outlives_close(cleaner: Cleaner) -> None:
    await asyncio.gather(clean(cleaner, JPEG), clean(cleaner, JPEG))
    await cleaner.close()
    assert workers() == []


async def test_a_spool_counts_hashes_and_gives_its_room_back(cleaner: Cleaner) -> None:
    async with cleaner.spool() as spool:
        for at in range(0, len(JPEG), 7):
            await spool.write(JPEG[at : at + 7])
        assert spool.size_bytes == len(JPEG) == cleaner.room.taken_bytes
        assert spool.sha256 == hashlib.sha256(JPEG).digest()
        async with cleaner.clean(spool) as content:
            assert content.kind is Kind.JPEG
        assert (await spool.file()).read() == JPEG
    assert cleaner.room.taken_bytes == 0


@pytest.mark.parametrize(
    ("head", "limit"),
    [(b"\xff\xd8\xff\xe0", "image_bytes_max"), (b"\x00\x00\x00\x20ftypisom", "video_bytes_max")],
)
async def test_a_spool_stops_at_the_limit_of_what_it_may_become(head: bytes, limit: str) -> None:
    settings = Settings(image_bytes_max=1_000, video_bytes_max=2_000)
    async with Cleaner(settings).spool() as spool:
        await spool.write(head + b"\x00" * 84)
        bytes_max = getattr(settings, limit)
        while spool.size_bytes + 100 <= bytes_max:
            await spool.write(b"\x00" * 100)
        with pytest.raises(InvalidRequest) as refused:
            await spool.write(b"\x00" * 100)
        assert refused.value.reason == MEDIA_TOO_LARGE
        assert spool.size_bytes <= bytes_max


async def test_a_spool_stops_at_bytes_that_are_nothing() -> None:
    async with Cleaner(Settings()).spool() as spool:
        with pytest.raises(InvalidRequest) as refused:
            await spool.write(b"MZ and so on, no picture")
        assert refused.value.reason == MEDIA_TYPE_UNSUPPORTED


async def test_spools_share_the_room_of_their_process() -> None:
    cleaner = Cleaner(Settings(spool_bytes_max=len(JPEG) + 10))
    async with cleaner.spool() as first, cleaner.spool() as second:
        await first.write(JPEG)
        with pytest.raises(Exhausted):
            await second.write(JPEG)
        first.close()
        await second.write(JPEG)


async def test_a_spool_on_disk_has_no_name(tmp_path: os.PathLike[str]) -> None:
    cleaner = Cleaner(Settings(spool_dir=str(tmp_path)))
    async with cleaner.spool() as spool:
        for _ in range(4):
            await spool.write(b"\xff\xd8\xff" + b"\x00" * 200_000)
        assert (await spool.file()).read(3) == b"\xff\xd8\xff"
        assert os.listdir(tmp_path) == []


def test_limits_come_from_the_settings_of_their_names() -> None:
    limits = cleaner_module.limits_of(Settings(image_side_max=123))
    assert limits.image_side_max == 123
