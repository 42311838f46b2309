"""The command over views that are not there: what it does with several names."""

from pathlib import Path

import pytest
from rich.console import Console

from cli import replay as command
from millrace import collector
from millrace.errors import MillraceError
from millrace.settings import Settings
from streams.replay import Wanted


def kind(name: str, replayed: list[str], said: str) -> command.Kind:
    async def replay(_settings: Settings, _wanted: Wanted, _console: Console) -> str:
        replayed.append(name)
        return said

    async def nothing(_settings: Settings) -> None: ...

    async def no_words(_settings: Settings) -> str:
        return ""

    return command.Kind(replay, nothing, no_words, no_words)


def test_a_view_that_differs_keeps_none_after_it_waiting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replayed: list[str] = []
    kinds = {"a": "a differs", "b": "", "c": "c differs"}
    made = {name: kind(name, replayed, said) for name, said in kinds.items()}
    monkeypatch.setattr(command, "KINDS", made)
    monkeypatch.setattr(collector, "settle", lambda _: None)
    monkeypatch.setattr(command, "settings_of_running", lambda _: Settings())
    with pytest.raises(MillraceError, match="a differs; c differs"):
        command.replay(["all"], data=tmp_path)
    assert replayed == ["a", "b", "c"]
    command.replay(["b"], data=tmp_path)
    assert replayed[3:] == ["b"]
