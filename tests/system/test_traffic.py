"""`millrace traffic --verify` on the real servers: 0 when all is there, 1 when a like is gone."""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import pytest

from cli.processes import ROOT
from tests.running import RunningMillrace, running_millrace

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(300)

CROWD = ["--graph", "zipf", "--users", "30", "--online", "10", "--rate", "25"]
LOST = ["--duration", "5s", "--seed", "2", "--processes", "1"]
LIKE_WAIT_S = 200.0


def environment(millrace: RunningMillrace) -> dict[str, str]:
    """For a command that means this installation."""
    settings = millrace.settings
    return {
        "MILLRACE_STACK_FILE": settings.stack_file,
        "MILLRACE_POSTGRES_DSN": settings.postgres_dsn,
        "MILLRACE_TOPIC_PREFIX": settings.topic_prefix,
        "MILLRACE_CASSANDRA_KEYSPACE": settings.cassandra_keyspace,
        "MILLRACE_KEYS_DIR": str(settings.keys_dir),
        "MILLRACE_OBJECTS_URL": settings.objects_url,
        "MILLRACE_LOG_PARTITIONS": str(settings.log_partitions),
        "MILLRACE_GRPC_ADDRESS": millrace.installation.grpc_address,
    }


async def traffic(millrace: RunningMillrace, *arguments: str) -> "asyncio.subprocess.Process":
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "traffic", *CROWD, *arguments,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment(millrace)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_all_that_was_acknowledged_is_there(
    running_millrace: RunningMillrace, tmp_path: Path
) -> None:
    files = ["--json", str(tmp_path / "t.json"), "--html", str(tmp_path / "t.html")]
    run = await traffic(running_millrace, "--duration", "6s", "--verify", *files)
    told, wrong = await run.communicate()
    assert run.returncode == 0, (told.decode(), wrong.decode())
    figures = json.loads((tmp_path / "t.json").read_text())
    assert figures["passed"]
    assert {check["passed"] for check in figures["checks"]} == {True}
    assert len(figures["checks"]) == 14
    assert figures["traffic"]["calls"] > 75
    assert figures["traffic"]["writes_acknowledged"] > 20
    assert figures["parameters"]["shares"]["LikeMedia"] == pytest.approx(40 / 80.6, abs=0.01)
    assert "<svg" in (tmp_path / "t.html").read_text()
    print(told.decode())


async def test_a_like_taken_away_by_sql_fails_the_run(running_millrace: RunningMillrace) -> None:
    connection = await asyncpg.connect(running_millrace.settings.postgres_dsn)
    try:
        before = await connection.fetchval("SELECT count(*) FROM likes")
        run = await traffic(running_millrace, *LOST, "--verify")
        async with asyncio.timeout(LIKE_WAIT_S):
            while await connection.fetchval("SELECT count(*) FROM likes") == before:
                await asyncio.sleep(0.05)
        # The newest: the others are those of the test before.
        taken = await connection.fetch(
            "DELETE FROM likes WHERE (media_id, user_id) IN"
            " (SELECT media_id, user_id FROM likes ORDER BY media_id DESC LIMIT 1) RETURNING *"
        )
    finally:
        await connection.close()
    told, wrong = await run.communicate()
    assert len(taken) == 1
    assert run.returncode == 1, told.decode()
    assert b"checks failed" in wrong
    assert b"found" in told
    print(told.decode(), wrong.decode())
