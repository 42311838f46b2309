"""`millrace replay feed` on the real servers: under traffic, killed, and with the keyspace lost."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millrace.errors import StoreUnavailable
from millrace.settings import Settings
from millrace.stores.feed_port import FIRST_TABLE
from millrace.traffic.run import Traffic
from millrace.traffic.tally import OK
from streams.owed_rows import OwedRows, check_owed_rows
from tests.running import RunningMillrace, running
from tests.steady_traffic import steady_traffic

# The short form: tests/unit/test_replay_feed.py and tests/contract/test_feed_tables.py.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 120.0
QUICK: dict[str, object] = {
    "feed_tables_refresh_s": 0.2,
    "feed_tables_lease_s": 3,
    "replay_settle_s": 1,
}


@pytest.fixture(scope="module")
async def millrace(
    stack: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningMillrace]:
    async with running(stack, tmp_path_factory.mktemp("feed"), **QUICK) as found:  # type: ignore[arg-type]
        yield found


async def owed(millrace: RunningMillrace) -> OwedRows:
    await millrace.process_all()
    stores = millrace.stores
    return await check_owed_rows(stores.log, stores.views, stores.feeds)


async def command(settings: Settings, *arguments: str) -> "asyncio.subprocess.Process":
    given = {
        "stack_file": settings.stack_file,
        "postgres_dsn": settings.postgres_dsn,
        "topic_prefix": settings.topic_prefix,
        "cassandra_keyspace": settings.cassandra_keyspace,
        "keys_dir": settings.keys_dir,
        "log_partitions": settings.log_partitions,
        **QUICK,
    }
    environment = {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "replay", "feed", *arguments,
        env={**os.environ, **environment},
        cwd=Path(__file__).resolve().parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def done(settings: Settings, *arguments: str) -> str:
    process = await command(settings, *arguments)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def until_answered(playing: Traffic, calls: int) -> None:
    goal = playing.record.tally.ended + calls
    while playing.record.tally.ended < goal:
        await asyncio.sleep(0.05)


async def test_killed_then_switched_under_traffic_then_back_then_the_keyspace_is_lost(
    millrace: RunningMillrace,
) -> None:
    settings, feeds = millrace.settings, millrace.stores.feeds
    async with steady_traffic(millrace, seed=6, rate=25.0) as playing:
        await until_answered(playing, 200)
        killed = await command(settings, "--events-per-s", "20")
        while not (await feeds.tables()).beside:
            await asyncio.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        assert f"{FIRST_TABLE}_1 is being built" in await done(settings, "--status")
        said = await done(settings)
        assert f"0 of them missing in {FIRST_TABLE}_1" in said
        assert (await feeds.tables()).current == f"{FIRST_TABLE}_1"
        await until_answered(playing, 100)
    tally = playing.record.tally
    assert tally.outcomes[OK] == tally.ended, tally.outcomes
    found = await owed(millrace)
    assert found.checked > 0
    assert (found.missing_count, found.unplanned_count) == (0, 0)

    await done(settings, "--rollback")
    assert (await feeds.tables()).current == FIRST_TABLE
    assert not (await owed(millrace)).missing_count
    assert "dropped what was beside it (kept)" in await done(settings, "--drop-old")

    await feeds._session.define(f"DROP KEYSPACE {settings.cassandra_keyspace}")
    # Delivery ends by itself, makes the tables, and delivers all that the log keeps.
    await _until_back(millrace, found.checked)
    said = await done(settings)
    assert f"0 of them missing in {FIRST_TABLE}_1" in said
    assert not (await owed(millrace)).missing_count


async def _until_back(millrace: RunningMillrace, rows: int) -> None:
    """Every owed row, with no more than a few starts of the fan-out."""
    deadline_s = time.monotonic() + PATIENCE_S
    stores = millrace.stores
    while time.monotonic() < deadline_s:
        try:
            found = await check_owed_rows(stores.log, stores.views, stores.feeds)
            if found.checked >= rows and not found.missing_count:
                break
        except StoreUnavailable:
            pass
        await asyncio.sleep(0.2)
    else:
        raise AssertionError("the rows did not come back")
    assert millrace.supervisor.status().children["fanout"].restarts <= 10
