"""Waiting for servers at the start of a process."""

import pytest

from millrace import startup
from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.settings import settings


async def test_it_asks_until_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_PAUSE_S", 0.0)
    ends: list[Exception | str] = ["answer", StoreUnavailable("second"), StoreUnavailable("first")]
    told: list[str] = []

    async def ask() -> str:
        end = ends.pop()
        if isinstance(end, Exception):
            raise end
        return end

    assert await startup.until_answered(ask, told.append) == "answer"
    assert told == ["first", "second"]


async def test_patience_ends_with_the_stores_error_and_others_pass_at_once() -> None:
    async def ask(error: Exception) -> None:
        raise error

    with pytest.raises(StoreUnavailable, match="gone"):
        await startup.until_answered(lambda: ask(StoreUnavailable("gone")), patience_s=-1)
    with pytest.raises(FailedPrecondition):
        await startup.until_answered(lambda: ask(FailedPrecondition("never")))


def test_settings_that_cannot_be_read_end_the_process_with_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.cache_clear()
    monkeypatch.setenv("MILLRACE_LOG_PARTITIONS", "0")
    with pytest.raises(SystemExit, match="wrong settings: MILLRACE_LOG_PARTITIONS"):
        startup.settings_or_exit()
