"""The command line: one clear line and a code for what goes wrong, never a traceback."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from cli import main
from cli.bench import BENCHES
from cli.contact_sheet import Card, draw_feed
from cli.processes import OWN, own_children
from deploy.local.ports import Ports
from millrace.errors import FailedPrecondition, StoreUnavailable


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["millrace", *arguments])
    with pytest.raises(SystemExit) as left:
        main.app()
    assert isinstance(left.value.code, int)
    return left.value.code


def test_an_unknown_bench_names_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "bench", "nonsense") == 2
    said = capsys.readouterr().err
    assert all(name in said for name in BENCHES)
    assert said.count("\n") == 1


def test_an_empty_data_directory_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in ("status", "migrate", "topics", "keys", "owed"):
        assert run(monkeypatch, command, "--data", str(tmp_path)) == 2
        assert capsys.readouterr().err.startswith("millrace: no")


@pytest.mark.parametrize(
    ("problem", "code"), [(FailedPrecondition("not now"), 2), (StoreUnavailable("gone"), 1)]
)
def test_our_errors_are_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    problem: Exception,
    code: int,
) -> None:
    def fail() -> None:
        raise problem

    monkeypatch.setattr(main, "commands", fail)
    assert run(monkeypatch) == code
    assert capsys.readouterr().err == f"millrace: {problem}\n"


def test_usage_errors_exit_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "no-such-command") == 2


def test_every_process_has_ports_of_its_own_and_the_grpc_servers_share_one(
    tmp_path: Path,
) -> None:
    started = own_children(Ports(tmp_path / "ports.json", usual=False), {"MILLRACE_X": "1"})
    assert [child.name for child in started.children] == [process.name for process in OWN]
    ports = [*started.health_ports.values(), *started.metrics_ports.values()]
    assert len({*ports, int(started.grpc_address.rpartition(":")[2])}) == 2 * len(OWN) + 1
    assert {child.env["MILLRACE_GRPC_ADDRESS"] for child in started.children} == {
        started.grpc_address
    }
    assert all(child.env["MILLRACE_X"] == "1" for child in started.children)


def test_a_contact_sheet_holds_any_number_of_cards(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (90, 30), "teal").save(picture)
    card = Card(picture.read_bytes(), "ana", "a caption of many words " * 9, likes=1, liked=True)
    heights = []
    for count in (0, 1, 5):
        draw_feed(tmp_path / "feed.png", "ana's feed", "", [card] * count)
        with Image.open(tmp_path / "feed.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] == heights[1] < heights[2]
