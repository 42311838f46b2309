"""Traffic by several processes against the whole product on the memory twins, by its RPCs alone."""

import sys
from dataclasses import replace

import pytest
from rich.console import Console

from cli import main
from cli.traffic_places import ByCalls
from cli.traffic_run import Crowd, Load, gathered
from millrace.errors import MillraceError
from millrace.traffic.mix import Rpc
from millrace.traffic.report import report_of
from tests.serving import serving

CROWD = Crowd("zipf", users=12, online=8, processes=2)
LOAD = Load(rate=40.0, seconds=4.0)


async def test_two_processes_play_one_plan_and_all_is_there_afterwards() -> None:
    async with serving() as world:
        place = ByCalls([world.address])
        async with gathered(CROWD, place, Console(quiet=True)) as run:
            record = await run.play(LOAD)
            report = report_of(record)
            assert report.calls > 100
            assert report.dropped == 0
            rpcs = {rpc.rpc for rpc in report.by_rpc if rpc.calls}
            assert {Rpc.LIKE, Rpc.GET_FEED, Rpc.DOWNLOAD} <= rpcs
            # What one process uploads, people of the other like, too.
            likers = {user for kind, user, _ in record.acknowledged.standing if kind == "likes"}
            assert len(likers) > 4
            checks = await run.check()
    assert [check for check in checks if not check.passed] == []
    assert sum(check.examined for check in checks) > 50


async def test_a_like_that_is_not_there_is_found() -> None:
    async with serving() as world:
        place = ByCalls([world.address], patience_s=0.0)
        async with gathered(replace(CROWD, processes=1), place, Console(quiet=True)) as run:
            await run.play(replace(LOAD, seconds=1.0))
            await world.process_all()
            media_id = run.acknowledged.uploads[0].media_id
            standing, users = run.acknowledged.standing, run.acknowledged.registered
            missing = next(u for u in users if not standing.get(("likes", u, media_id)))
            standing["likes", missing, media_id] = True
            checks = await run.check()
    wrong = [check.claim for check in checks if not check.passed]
    assert len(wrong) == 2, wrong
    assert "media, their captions and counts" in wrong[0]
    assert "likers" in wrong[1]


async def test_a_server_that_is_not_there_ends_the_run_with_a_reason() -> None:
    place = ByCalls(["127.0.0.1:1"])
    with pytest.raises(MillraceError, match=r"nothing answers at 127\.0\.0\.1:1"):
        async with gathered(CROWD, place, Console(quiet=True)):
            pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--mix nonsense", "talk, reads, likes"),
        ("--mix likes=1,hearts=2", "comment-lists"),
        ("--burst x5", "x5 for 10s every 60s"),
        ("--duration soon", "90s, 20m or 1h"),
        ("--rate 0", "--rate 0 is no number above 0"),
        ("--rate nan", "--rate nan is no number above 0"),
        ("--rate inf", "--rate inf is no number above 0"),
        ("--rate 1e9", "--rate 1e+09 is above 100000"),
        ("--celebrity inf", "--celebrity inf is neither 0"),
        ("--celebrity 1e-9", "nor a number from 1 on"),
        ("--reads nan", "no nan reads a write"),
        ("--reads inf", "no inf reads a write"),
        ("--graph /dev/null", "nobody follows anybody"),
        ("--mix likes --reads 3", "no 3 reads a write"),
        ("--graph no-such-file", "no-such-file"),
        ("--json /dev/null/file.json", "/dev/null"),
    ],
)
def test_what_cannot_be_understood_is_one_line(
    arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["millrace", "traffic", "--against", "127.0.0.1:1", *arguments.split()]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as left:
        main.app()
    assert left.value.code == (1 if "file" in arguments else 2)
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    ["--users -3", "--online 0", "--seed -1", "--processes 0", "--processes 65"],
)
@pytest.mark.parametrize("command", ["traffic", "soak"])
def test_a_number_out_of_bounds_is_wrong_usage(
    command: str,
    arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["millrace", command, *arguments.split()])
    with pytest.raises(SystemExit) as left:
        main.app()
    assert left.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["--minutes nan", "--minutes 0.5", "--rate nan", "--rate -5"])
def test_a_soak_that_makes_no_sense_is_one_line(
    arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["millrace", "soak", *arguments.split()])
    with pytest.raises(SystemExit) as left:
        main.app()
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert arguments.split()[0] in told
    assert told.count("\n") == 1
