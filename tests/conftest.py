"""What every test may ask for.

`stack`: the real servers, one set for the whole session, started when the first test asks, so
that tests of pure code never wait for them. To keep a set between runs while developing:

    python -m deploy.local up --servers-only --other-ports --data /tmp/mine &
    MILLRACE_TEST_STACK=/tmp/mine/stack.json pytest tests/contract

Isolation is by names, not by servers: each test or module takes a topic prefix, a database and
a keyspace of its own from `namespace`. Killing a server of `stack` disturbs nobody for long (it
is restarted), but a test that stops one, or changes its files, takes a stack of its own:

    settings = StackSettings(data_dir, servers=("postgres",), usual_ports=False)
    async with LocalStack(settings) as own: await own.stop_child("postgres") …
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local import status
from deploy.local.child import bound_argv
from deploy.local.files import last_lines
from deploy.local.status import StackStatus

pytest_plugins = (
    "tests.databases",
    "tests.contract.view_stores",
    "tests.hostile_count",
    "tests.fault_report",
    "tests.memcached_server",
)

_START_TIMEOUT_S = 170
_STOP_TIMEOUT_S = 120
_POLL_S = 0.1
_LAST_LINES = 40


@pytest.fixture(scope="session")
def stack() -> Iterator[StackStatus]:
    """Addresses and processes of running servers; `stack.settings` are keys of stack.json.

    After a test has killed a server, ask `status.read` or `status.wait_ready` anew: this value
    is the state at the start of the session.
    """
    if given := os.environ.get("MILLRACE_TEST_STACK"):
        running = status.ready(Path(given))
        if running is None:
            pytest.exit(f"MILLRACE_TEST_STACK={given}: nothing is ready there", returncode=3)
        yield running
        return
    with _open_folder() as folder:
        yield from _started(folder / "data", folder / "up.log")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where a test may start a stack of its own; does not exist yet."""
    with _open_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    """A folder for the stack that all tests of a module share; `FOLDER/data` is its `data_dir`."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture
def namespace() -> str:
    """A name that no other test has: letters and digits, fit for topics, databases, keyspaces."""
    return f"t{secrets.token_hex(5)}"


@contextmanager
def _open_folder() -> Iterator[Path]:
    """Not pytest's own: PostgreSQL runs as another user, who could not enter that."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(data_dir: Path, output: Path) -> Iterator[StackStatus]:
    argv = (sys.executable, "-m", "deploy.local", "up", "--servers-only", "--other-ports")
    with output.open("w") as out:
        # Bound to pytest: should it be killed, the launcher and with it all servers go, too.
        launcher = subprocess.Popen(
            bound_argv((*argv, "--data", str(data_dir))),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _ready(launcher, data_dir, output)
    finally:
        launcher.terminate()
        launcher.wait(_STOP_TIMEOUT_S)


def _ready(launcher: subprocess.Popen[bytes], data_dir: Path, output: Path) -> StackStatus:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while launcher.poll() is None and time.monotonic() < deadline:
        if running := status.ready(data_dir):
            return running
        time.sleep(_POLL_S)
    said = "\n".join(last_lines(output, _LAST_LINES))
    pytest.exit(f"the servers did not start:\n{said}", returncode=3)
