"""docs/guarantees.md: every RPC has a kind and a line of its own, every line a test that is there.

A test that runs for several RPCs has their names as ids; then it must run for each RPC of which
the line speaks: those of its table, without those that the line itself excepts by "not of".
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.message_factory import GetMessageClass

from social.v1 import activity_pb2_grpc, feed_pb2_grpc, follows_pb2_grpc
from tests.contract.test_protos import CONTRACT, METHODS
from tests.serving import refusal, serving

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "guarantees.md").read_text()
_RPC = re.compile(r"\b[A-Z][A-Za-z]+Service/[A-Z][A-Za-z]+\b")
_TEST = re.compile(r"`([\w/]+\.py::\w+)`")


class Line(NamedTuple):
    """`rpcs`: of which it speaks; none where it is about all calls."""

    text: str
    rpcs: tuple[str, ...]
    tests: tuple[str, ...]


def lines() -> list[Line]:
    found: list[Line] = []
    speaks_of: tuple[str, ...] = ()
    for paragraph in DOCUMENT.split("\n\n"):
        if paragraph.startswith("#"):
            speaks_of = ()
        elif paragraph.startswith("Of: "):
            speaks_of = tuple(_RPC.findall(paragraph))
        rows = [row for row in paragraph.splitlines() if row.startswith("| ")]
        for text in rows[1:]:
            first = text.split("|")[1].strip()
            own = (first,) if _RPC.fullmatch(first) else ()
            excepted = _RPC.findall(text.split("not of", 1)[1]) if "not of" in text else []
            rpcs = own or tuple(rpc for rpc in speaks_of if rpc not in excepted)
            found.append(Line(text, rpcs, tuple(_TEST.findall(text))))
    return found


@cache
def collected() -> dict[str, set[str]]:
    """Ids of the tests' parameters by "file::test"."""
    files = sorted({test.split("::")[0] for line in lines() for test in line.tests})
    assert not [file for file in files if not (ROOT / file).exists()]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]
    found: dict[str, set[str]] = {}
    for one in re.findall(r"^([\w/]+\.py::\w+)(?:\[(.*)\])?$", done.stdout, re.MULTILINE):
        found.setdefault(one[0], set()).add(one[1])
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.text[:60])
def test_a_line_has_tests_that_are_there(line: Line) -> None:
    assert line.tests, "a line without a test"
    assert [test for test in line.tests if test not in collected()] == []


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.text[:60])
def test_a_test_runs_for_each_rpc_of_its_line(line: Line) -> None:
    for test in line.tests:
        ids = collected()[test]
        if any(_RPC.search(one) for one in ids):
            missing = [rpc for rpc in line.rpcs if not any(rpc in one for one in ids)]
            assert missing == [], test


@pytest.mark.parametrize("rpc", CONTRACT)
def test_every_rpc_has_a_kind_and_a_line_of_its_own(rpc: str) -> None:
    kinds = [text for text in DOCUMENT.split("\n\n") if text.startswith("Of: ")]
    assert len([kind for kind in kinds if rpc in _RPC.findall(kind)]) == 1
    assert [line for line in lines() if _RPC.findall(line.text.split("|")[1]) == [rpc]]


STILL_TO_COME = (
    "FollowsService/RemoveFollower",
    "FollowsService/GetRelationships",
    "FollowsService/Block",
    "FollowsService/Unblock",
    "FollowsService/Mute",
    "FollowsService/Unmute",
    "FollowsService/ListFollowRequests",
    "FollowsService/AcceptFollow",
    "FollowsService/RejectFollow",
    "FeedService/WatchFeed",
    "ActivityService/ListActivity",
    "ActivityService/GetUnreadCount",
    "ActivityService/MarkSeen",
    "ActivityService/WatchActivity",
)


@pytest.mark.parametrize("rpc", STILL_TO_COME)
async def test_what_is_still_to_come_says_so(rpc: str) -> None:
    service, method = rpc.split("/")
    modules = (activity_pb2_grpc, feed_pb2_grpc, follows_pb2_grpc)
    name = f"{service}Stub"
    made: Any = next(getattr(module, name) for module in modules if hasattr(module, name))
    request = GetMessageClass(METHODS[rpc].input_type)()
    async with serving() as world:
        call = getattr(made(world.channel), method)(request)
        refused = await refusal(call if hasattr(call, "__await__") else anext(aiter(call)))
    assert (refused.code.name, refused.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")
