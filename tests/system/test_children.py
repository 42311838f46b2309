"""What the stack does with a child, shown on small shell scripts instead of servers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deploy.local.child import Child
from deploy.local.stack import LocalStack, StackSettings
from deploy.local.watch import ChildFailed, RestartPolicy

# Says when it starts and when it is asked to stop, in a file that all of them share.
STORY = """
echo "$0 starts" >> "$STORY"
trap 'echo "$0 stops" >> "$STORY"; exit 0' TERM
touch "$0.up"
while :; do sleep 0.05; done
"""


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    quick = RestartPolicy(restarts_a_minute_max=2, backoff_first_s=0.01)
    return StackSettings(data_dir=tmp_path / "data", servers=(), restarts=quick)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Child]:
    def make(name: str, script: str = STORY, **more: object) -> Child:
        child = Child(
            name=name,
            argv=("sh", "-c", script, name),
            ready=_exists(tmp_path / f"{name}.up"),
            prepare=_removed(tmp_path / f"{name}.up"),
            env={"STORY": str(tmp_path / "story")},
            cwd=tmp_path,
        )
        return replace(child, **more)  # type: ignore[arg-type]

    return make


def _exists(file: Path) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        await asyncio.to_thread(file.stat)

    return ready


def _removed(file: Path) -> Callable[[], Awaitable[None]]:
    async def prepare() -> None:
        await asyncio.to_thread(file.unlink, missing_ok=True)

    return prepare


async def test_children_start_after_and_stop_before_what_they_need(
    settings: StackSettings, shell: Callable[..., Child], tmp_path: Path
) -> None:
    async with LocalStack(settings) as stack:
        stack.add(shell("server"))
        stack.add(shell("service", depends_on=("server",)))
        await stack.wait_all_ready()
        assert stack.status().ready
    story = (tmp_path / "story").read_text().splitlines()
    assert story == ["server starts", "service starts", "service stops", "server stops"]


async def test_a_child_that_keeps_dying_fails_the_stack_with_its_last_lines(
    settings: StackSettings, shell: Callable[..., Child], told: list[str]
) -> None:
    async with LocalStack(settings, report=told.append) as stack:
        stack.add(shell("broken", "echo no such table >&2; exit 7"))
        with pytest.raises(ChildFailed, match=r"broken ended with code 7(?s:.)*no such table"):
            await stack.wait_ready("broken")
        assert sum("starting it again" in text for text in told) == 2
        with pytest.raises(ChildFailed):
            await stack.until_over()


async def test_a_child_whose_server_failed_is_not_waited_for_in_vain(
    settings: StackSettings, shell: Callable[..., Child]
) -> None:
    async with LocalStack(settings) as stack:
        stack.add(shell("server", "exit 7"))
        stack.add(shell("service", depends_on=("server",)))
        with pytest.raises(ChildFailed, match="service waited in vain: server ended with code 7"):
            await stack.wait_ready("service")


async def test_stopping_does_not_wait_for_a_server_that_is_not_ready(
    settings: StackSettings, shell: Callable[..., Child]
) -> None:
    stack = LocalStack(settings)
    await stack.start()
    stack.add(shell("server", "sleep 60"))
    stack.add(shell("service", depends_on=("server",)))
    await asyncio.wait_for(stack.stop(), 5)


async def test_a_child_that_never_answers_is_killed(
    settings: StackSettings, shell: Callable[..., Child]
) -> None:
    mute = shell("mute", "sleep 60", ready_timeout_s=0.3, on_death="stop the stack")
    async with LocalStack(settings) as stack:
        stack.add(mute)
        with pytest.raises(ChildFailed, match="gave no answer"):
            await stack.wait_ready("mute")
        assert stack.status().children["mute"].process is None


async def test_a_child_that_ignores_the_stop_signal_is_killed(
    settings: StackSettings, shell: Callable[..., Child], told: list[str]
) -> None:
    deaf = "trap '' TERM; touch $0.up; while :; do sleep 0.05; done"
    async with LocalStack(settings, report=told.append) as stack:
        stack.add(shell("deaf", deaf, stop_timeout_s=0.3))
        await stack.wait_all_ready()
        process = psutil.Process(stack.status().pid("deaf"))
    assert not process.is_running()
    assert any("did not stop" in text for text in told)


async def test_one_child_can_be_stopped_started_and_killed(
    settings: StackSettings, shell: Callable[..., Child], told: list[str], tmp_path: Path
) -> None:
    async with LocalStack(settings, report=told.append) as stack:
        stack.add(shell("child"))
        await stack.wait_all_ready()
        first = stack.status().pid("child")
        await stack.stop_child("child")
        assert not psutil.pid_exists(first)
        assert stack.status().children["child"].state == "stopped"
        await stack.start_child("child")
        second = stack.status().pid("child")
        stack.kill("child")
        await stack.wait_ready("child")
        assert stack.status().pid("child") not in (first, second)
    assert sum("killed by signal 9" in text for text in told) == 1
    assert (tmp_path / "story").read_text().splitlines().count("child starts") == 3


async def test_a_child_has_the_niceness_that_it_asks_for(
    settings: StackSettings, shell: Callable[..., Child], told: list[str]
) -> None:
    async with LocalStack(settings, report=told.append) as stack:
        # Absolute, and the one that everybody may give.
        stack.add(shell("nice", nice=19))
        await stack.wait_all_ready()
        assert psutil.Process(stack.status().pid("nice")).nice() == 19


async def test_serve_returns_what_the_work_returned(settings: StackSettings) -> None:
    async def work() -> int:
        return 42

    assert await LocalStack(settings).serve(work) == 42


async def test_a_signal_cuts_the_work_off(settings: StackSettings) -> None:
    async def work() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
        return 42

    assert await LocalStack(settings).serve(work) is None


async def test_a_failed_child_cuts_the_work_off(
    settings: StackSettings, shell: Callable[..., Child], told: list[str]
) -> None:
    stack = LocalStack(settings, report=told.append)

    async def work() -> None:
        stack.add(shell("broken", "exit 7"))
        await asyncio.Event().wait()

    with pytest.raises(ChildFailed, match="ended with code 7"):
        await stack.serve(work)
