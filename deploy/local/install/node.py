"""buf, and the gRPC client of the system tests, by npm; node and npm come from the lock file.

`.venv/bin/buf` is the program itself, so that nobody needs node on PATH to run it.
"""

from __future__ import annotations

import hashlib
import os

from deploy.local.install.step import ROOT, CannotInstall, cache_folder, run, step
from deploy.local.install.venv import VENV

FOLDER = ROOT / "tests" / "system" / "grpcjs"
_MODULES = FOLDER / "node_modules"
_STAMP = _MODULES / ".millrace-installed"
_BUF = VENV / "bin" / "buf"


def install() -> None:
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    if not _STAMP.exists() or _STAMP.read_text() != wanted:
        with step("buf and grpc-js by npm"):
            _ci()
            _STAMP.write_text(wanted)
    if not _BUF.exists():
        _link_buf()


def _ci() -> None:
    env = {"PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
    # node trusts its own list of authorities unless it is told of the machine's.
    if "SSL_CERT_FILE" in os.environ and "NODE_EXTRA_CA_CERTS" not in os.environ:
        env["NODE_EXTRA_CA_CERTS"] = os.environ["SSL_CERT_FILE"]
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    cache = str(cache_folder() / "npm")
    run([str(VENV / "bin" / "npm"), "ci", *quiet, "--cache", cache], env=env, cwd=FOLDER)


def _link_buf() -> None:
    programs = sorted(_MODULES.glob("@bufbuild/buf-linux-*/bin/buf"))
    if not programs:
        raise CannotInstall("npm brought no buf for this kind of machine")
    _BUF.unlink(missing_ok=True)
    _BUF.symlink_to(programs[0])
