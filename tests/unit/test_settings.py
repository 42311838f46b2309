"""docs/settings.md lists what there is, and nobody else reads the environment."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from millrace.errors import InvalidRequest
from millrace.settings import Settings, settings_with

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "millrace/settings.py"
CODE = ("millrace", "services", "streams", "cli")
PREFIX = str(Settings.model_config["env_prefix"])
# settings.py reads through pydantic; the command line sets a variable of gRPC's own.
TOUCHES_ENVIRONMENT = {"cli/__init__.py"}


def documented() -> list[tuple[str, str, Any]]:
    """(heading, field, default) of every row, in order."""
    rows: list[tuple[str, str, Any]] = []
    heading = ""
    for line in (ROOT / "docs/settings.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith(f"| `{PREFIX}"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            variable, default, unit, meaning, change = cells
            assert all((unit, meaning, change)), variable
            field = variable.strip("`").removeprefix(PREFIX).lower()
            rows.append((heading, field, eval(default.strip("`"), {})))
    return rows


def declared() -> list[tuple[str, str, Any]]:
    """(group's comment, field, default) as millrace/settings.py has them, in order."""
    rows: list[tuple[str, str, Any]] = []
    group = ""
    for line in SETTINGS.read_text().splitlines():
        if comment := re.match(r"    # (.*)", line):
            group = comment[1]
        elif (found := re.match(r"    (\w+):", line)) and found[1] in Settings.model_fields:
            rows.append((group, found[1], Settings.model_fields[found[1]].default))
    return rows


def test_every_setting_is_documented_in_its_group_with_its_default() -> None:
    assert {field for _, field, _ in declared()} == set(Settings.model_fields)
    assert documented() == declared()


def test_every_setting_is_used() -> None:
    used = set[str]()
    for file in [*modules(*CODE, "deploy"), SETTINGS]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.add(node.value)
    assert not set(Settings.model_fields) - used


def test_only_the_settings_read_the_environment() -> None:
    readers = {str(file.relative_to(ROOT)) for file in modules(*CODE) if touches_environment(file)}
    assert readers == TOUCHES_ENVIRONMENT
    named = re.compile(rf"(environ|getenv)\W[^\n]*{PREFIX}")
    others = {file for file in modules("deploy", "tests") if named.search(file.read_text())}
    # Which stack to test on; and the level at which the launched processes shall log.
    # The servers that a test runs on, and the seed of what it draws.
    stack = {ROOT / "tests/conftest.py", ROOT / "tests/upstream/servers.py"}
    stack.add(ROOT / "tests/against_oracle.py")
    assert others == {*stack, ROOT / "tests/system/test_privacy_of_logs.py"}


def test_a_value_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_LOG_PARTITIONS", "0")
    with pytest.raises(ValidationError, match="log_partitions"):
        Settings()


def test_a_refusal_names_the_variable_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CASSANDRA_PORT", "secret")
    with pytest.raises(InvalidRequest, match="MILLRACE_CASSANDRA_PORT") as refused:
        settings_with(upload_deadline_s="secret as well")
    assert "MILLRACE_UPLOAD_DEADLINE_S" in refused.value.message
    assert "secret" not in refused.value.message


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="orphan_age_s must be above"):
        settings_with(orphan_age_s=1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"page_size_default": 101}, "page_size_default must not be above page_size_max"),
        ({"streams_a_user_max": 2_000}, "streams_a_user_max must not be above streams_max"),
        ({"admission_calls_start": 1}, "admission_calls_min must not be above"),
        ({"page_size_max": 101}, "MILLRACE_PAGE_SIZE_MAX"),
        ({"grpc_message_bytes_max": 1024 * 1024}, "MILLRACE_GRPC_MESSAGE_BYTES_MAX"),
        ({"log_level": "loud"}, "MILLRACE_LOG_LEVEL"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        settings_with(**changed)


@pytest.mark.parametrize("text", [None, "", "no JSON"])
def test_a_stack_file_that_is_not_one_is_refused(tmp_path: Path, text: str | None) -> None:
    """Else the defaults would be taken, and they may be somebody else's servers."""
    file = tmp_path / "stack.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidRequest, match="stack file"):
        settings_with(stack_file=str(file))


def modules(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return [file for file in found if "node_modules" not in file.parts and file != SETTINGS]


def touches_environment(file: Path) -> bool:
    tree = ast.parse(file.read_text())
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names_environ(node))
        for node in ast.walk(tree)
    )


def names_environ(node: ast.ImportFrom) -> bool:
    return any(alias.name in ("environ", "getenv", "environb") for alias in node.names)
