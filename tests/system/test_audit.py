"""The audit on the real servers: silent while traffic goes on, and told of what was planted."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from cli.stores import OpenStores
from millrace.clock import SystemClock
from millrace.settings import Settings
from millrace.stores.feed_port import FeedRow
from streams.audit import CHECKS, Audit, Bounds, Difference, ServedByViews, Sources, Told
from tests.running import PASSWORD, RunningMillrace, running_millrace
from tests.steady_traffic import steady_traffic
from tests.system.test_main_job import picture

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(300)

# Several slices of users, one of media.
BOUNDS = Bounds(keys_max=25, members_max=1_000, wait_s=60.0, again_s=1.0)


class Heard(Told):
    def __init__(self) -> None:
        self.differences: list[Difference] = []

    def differs(self, difference: Difference) -> None:
        self.differences.append(difference)


async def audited(stores: OpenStores, bounds: Bounds) -> Heard:
    heard = Heard()
    served = ServedByViews(stores.views, stores.feeds)
    sources = Sources(stores.log, stores.views, stores.feeds, SystemClock(), served)
    await Audit(sources, bounds, heard).run(CHECKS)
    return heard


async def test_silent_under_traffic_then_told_of_everything_that_is_planted(
    running_millrace: RunningMillrace,
) -> None:
    stores = running_millrace.stores
    async with steady_traffic(running_millrace, seed=5, rate=30.0) as playing:
        before = playing.record.tally.ended
        assert (await audited(stores, BOUNDS)).differences == []
        assert playing.record.tally.ended > before
    client = running_millrace.client
    author = await client.register("author", PASSWORD)
    await client.follow(await client.register("reader", PASSWORD), author.user_id)
    await client.upload(author, picture(1), "a row in a feed")
    await running_millrace.process_all()

    settings = running_millrace.settings
    dsn = settings.postgres_dsn
    row = await anext(stores.feeds.scan())
    async with (
        _undone(dsn, _WRONG_COUNT, _RIGHT_COUNT) as followed,
        _undone(dsn, _NO_EDGE, _EDGE) as follower,
        _undone(dsn, _EXTRA_EDGE, _NO_EXTRA_EDGE) as item,
    ):
        await _delete(stores, row)
        told = _command(settings, "audit", "--json")
        assert told.returncode == 1
        assert told.stderr.count("4 differences between the log and what is served") == 1
        found = json.loads(told.stdout)["differences"]
        keys = {(one["check"], one["relation"]): one["key"] for one in found}
        assert keys == {
            ("counts", "followers"): followed,
            ("edges", "follows"): follower,
            ("edges", "likes"): item,
            ("feed", "owed rows"): row.user_id,
        }
        assert str(row.media_id) in found[-1]["expected"]
    await stores.feeds.write([row])
    told = _command(settings, "audit", "--sample", "5")
    assert told.returncode == 0, told.stderr
    assert "owed rows" in told.stdout


async def _delete(stores: OpenStores, row: FeedRow) -> None:
    session = stores.feeds._session
    await session.execute(
        f"DELETE FROM {stores.feeds._keyspace}.feed_by_user"
        f" WHERE user_id = {row.user_id} AND media_id = {row.media_id}"
    )


_WRONG_COUNT = (
    "UPDATE followers_count SET value = value + 1 WHERE id ="
    " (SELECT min(id) FROM followers_count) RETURNING id"
)
_RIGHT_COUNT = "UPDATE followers_count SET value = value - 1 WHERE id = $1"
_NO_EDGE = (
    "UPDATE follows SET live = false WHERE (follower_id, followee_id) = (SELECT follower_id,"
    " followee_id FROM follows WHERE live ORDER BY 1, 2 LIMIT 1) RETURNING follower_id"
)
_EDGE = (
    "UPDATE follows f SET live = true FROM followers i WHERE f.follower_id = $1"
    " AND i.follower_id = f.follower_id AND i.followee_id = f.followee_id AND i.live"
)
_EXTRA_EDGE = (
    "INSERT INTO likes SELECT media_id, 4000000, 1, 1, 1, true FROM media LIMIT 1"
    " RETURNING media_id"
)
_NO_EXTRA_EDGE = "DELETE FROM likes WHERE media_id = $1 AND user_id = 4000000"


@asynccontextmanager
async def _undone(dsn: str, do: str, undo: str) -> AsyncIterator[int]:
    """What a statement plants, which returns the key, and then is taken back."""
    connection = await asyncpg.connect(dsn)
    try:
        key: int = await connection.fetchval(do)
        yield key
        await connection.execute(undo, key)
    finally:
        await connection.close()


def _command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = {
        "MILLRACE_STACK_FILE": settings.stack_file,
        "MILLRACE_POSTGRES_DSN": settings.postgres_dsn,
        "MILLRACE_TOPIC_PREFIX": settings.topic_prefix,
        "MILLRACE_CASSANDRA_KEYSPACE": settings.cassandra_keyspace,
        "MILLRACE_LOG_PARTITIONS": str(settings.log_partitions),
        "MILLRACE_AUDIT_AGAIN_S": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
