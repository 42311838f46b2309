"""The command line: one clear line and a code for what goes wrong, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli import main
from cli.bench import BENCHES
from cli.contact_sheet import Card, draw_feed
from cli.processes import OWN, own_children
from deploy.local import status
from deploy.local.ports import Ports
from deploy.local.stack import AlreadyRunning
from deploy.local.status import StackStatus
from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.settings import settings

# Else a stack that was once started in this clone would be meant.
NO_LOCAL_STACK = """
from pathlib import Path
from cli import main, settings_of
settings_of.DATA_DIR_DEFAULT = Path("/nonexistent")
main.app()
"""


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
    for command in ("status", "migrate", "topics", "keys", "owed", "audit"):
        assert run(monkeypatch, command, "--data", str(tmp_path)) == 3
        assert capsys.readouterr().err.startswith("millrace: no")


def test_a_stack_that_is_down_is_told_before_any_server_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    StackStatus(str(tmp_path), False, None, {}, {"keys_dir": str(tmp_path / "keys")}).write(
        tmp_path
    )
    commands = ("status", "migrate", "topics", "owed", "load-graph no-such-file")
    for command in (*commands, "trace media/0/1", "dead list", "dead show likes.dead/0/1"):
        assert run(monkeypatch, *command.split(), "--data", str(tmp_path)) == 3
        assert f"nothing runs in {tmp_path}" in one_line(capsys)
    main.commands(["keys", "--data", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "keys" / "master.key").exists()


def test_a_data_directory_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no stack")
    assert run(monkeypatch, "up", "--data", str(tmp_path / "file")) == 1
    assert str(tmp_path / "file") in one_line(capsys)
    assert run(monkeypatch, "up", "--data", "/proc/no-such-folder") == 1
    assert "/proc/no-such-folder" in one_line(capsys)
    assert run(monkeypatch, "status", "--data", str(tmp_path / "file")) == 3
    one_line(capsys)


def test_what_a_power_cut_left_of_the_stacks_files_stops_nobody(tmp_path: Path) -> None:
    for text in ("", "[]", '{"half": '):
        (tmp_path / "stack.json").write_text(text)
        (tmp_path / "ports.json").write_text(text)
        assert status.read(tmp_path) is None
        assert Ports(tmp_path / "ports.json").remembered("kafka") is None


def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings.cache_clear()
    monkeypatch.setenv("MILLRACE_LOG_PARTITIONS", "many")
    monkeypatch.setenv("MILLRACE_STACK_FILE", "")
    assert run(monkeypatch, "topics") == 2
    assert "MILLRACE_LOG_PARTITIONS" in one_line(capsys)
    monkeypatch.setenv("MILLRACE_STACK_FILE", str(tmp_path / "no-such-file"))
    assert run(monkeypatch, "topics") == 2
    assert "no-such-file" in one_line(capsys)


def test_a_server_that_is_not_there_is_one_line_whatever_its_client_prints() -> None:
    addresses = {"MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "MILLRACE_STACK_FILE": ""}
    nowhere = {"MILLRACE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none", **addresses}
    path = os.pathsep.join(part for part in sys.path if part)
    for command, server in (("topics", "the log"), ("migrate", "PostgreSQL")):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.argv[1:] = [{command!r}]\n{NO_LOCAL_STACK}"],
            env={"PYTHONPATH": path, **nowhere},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"millrace: {server} does not answer")
        assert done.stderr.count("\n") == 1, done.stderr


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("millrace: ")
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (FailedPrecondition("not now"), 2),
        (StoreUnavailable("gone"), 1),
        (FileNotFoundError(2, "No such file", "graph.gz"), 1),
        (AlreadyRunning("one is running"), 3),
    ],
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
