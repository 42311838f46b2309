"""The bugs of others in docs/upstream.md are still there, so what avoids them must stay.

When one of these fails, a bug is gone: drop its entry and, with it, what it made us write.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

import grpc
import pytest

from deploy.local.status import FILE, StackStatus
from tests.serving import serving

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "upstream.md"
# What needs no server; what runs for long or measures time.
ALONE = [
    "aiokafka_fenced", "faust_head_gap", "grpc_deadline_in_write", "grpc_metadata_by_chance",
    "grpc_no_message", "grpc_reflection_method", "grpc_settings_unacknowledged",
]  # fmt: skip
ON_SERVERS = ["aiomcache_cancelled", "aiokafka_out_of_order", "cassandra_forgotten"]
SLOW = [
    "aiokafka_retries_for_ever", "faust_failing_event", "grpc_registered_methods",
    "cassandra_killed",
]  # fmt: skip
SHARED = {"servers", "raw_http2", "test_upstream"}
_PATIENCE_S = 360


async def reproduced(name: str, stack: StackStatus | None = None) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"}
    if stack is not None:
        environment["MILLRACE_TEST_STACK"] = str(Path(stack.data_dir) / FILE)
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.upstream.{name}"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            printed, complaint = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
    print(printed.decode())
    assert running.returncode == 0, printed.decode() + complaint.decode()


@pytest.mark.parametrize("name", ALONE)
async def test_still_there(name: str) -> None:
    await reproduced(name)


@pytest.mark.parametrize("name", ON_SERVERS)
async def test_still_there_on_the_servers(name: str, stack: StackStatus) -> None:
    await reproduced(name, stack)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SLOW)
async def test_still_there_slowly(name: str, stack: StackStatus) -> None:
    await reproduced(name, stack)


async def test_no_method_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a registered method makes every call dearer")

    monkeypatch.setattr(grpc.aio.Server, "add_registered_method_handlers", refuse)
    async with serving() as world:
        await world.register("ana")


def test_every_reproducer_is_run_and_in_the_document() -> None:
    files = {file.stem for file in HERE.glob("*.py")} - SHARED
    assert files == {*ALONE, *ON_SERVERS, *SLOW}
    assert files == set(re.findall(r"tests\.upstream\.(\w+)", DOCUMENT.read_text()))


def test_the_tests_that_the_document_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT.read_text())
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
