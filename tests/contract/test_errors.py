"""docs/errors.md, made to happen: each case of its tables gives the code and reason it says."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.error_cases import MADE
from tests.serving import serving

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "errors.md").read_text()
NONE = "(none"
# Where an error is raised, or a constant of that very name and value.
WRITTEN = re.compile(r'reason="([A-Z_]+)"|\b(?P<name>[A-Z_]+) = "(?P=name)"')


class Case(NamedTuple):
    code: str
    reason: str


def documented() -> dict[str, Case]:
    rows = re.findall(r"^\| ([^|]+) \| ([A-Z_]+) \| ([^|]+) \|", DOCUMENT, re.MULTILINE)
    found = {case.strip(): Case(code, reason.strip()) for case, code, reason in rows}
    assert len(found) == len(rows), "two rows are the same case"
    return found


CASES = documented()


@pytest.mark.parametrize("name", CASES)
async def test_a_case_is_what_the_document_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name not in MADE:
        pytest.fail(f"docs/errors.md has a case that nothing makes happen: {name}")
    async with serving(
        request_wait_s=0.5, handler_deadline_s=1.0, apply_wait_s=0.3, followees_max=1
    ) as world:
        ana = await world.register("ana")
        with monkeypatch.context() as patched:
            found = await MADE[name](world, ana, patched)
    expected = CASES[name]
    assert found.code.name == expected.code
    assert found.reason == ("" if expected.reason.startswith(NONE) else expected.reason)
    assert "10.0.0.7" not in repr(found)


def test_every_case_is_in_the_document() -> None:
    assert set(MADE) == set(CASES)


def test_every_reason_that_a_client_may_get_is_in_the_document() -> None:
    sources = [
        *(ROOT / "services").glob("*.py"),
        *(ROOT / "millrace" / "auth").glob("*.py"),
        *(ROOT / "millrace" / "content").glob("*.py"),
        ROOT / "millrace" / "policy.py",
        ROOT / "millrace" / "relations" / "page_token.py",
        ROOT / "millrace" / "log" / "position_token.py",
    ]
    found = {
        match[1] or match["name"]
        for file in sources
        for match in WRITTEN.finditer(file.read_text())
    }
    # Raised where a box is opened; a client gets INTERNAL.
    inside = {"SEAL_BROKEN"}
    assert found - inside <= {case.reason for case in CASES.values()}
