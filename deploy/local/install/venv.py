"""The virtual environment: exactly what requirements.lock says, by hash.

The lock's own uv does the work, since it is many times faster than pip; pip, which every
Python brings, gets uv first and stands in when uv cannot. Both take the machine's settings
(index, certificates) from pip's configuration. The project itself comes by a .pth file, which
needs no build and no download; generated protobuf code imports from protos/gen as its root.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local.install.step import ROOT, CannotInstall, run, step

VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
PYTHON = VENV / "bin" / "python"
_STAMP = VENV / "millrace-installed"
_VERSIONS = ((3, 11), (3, 12))
# The kernel takes no interpreter whose path holds a space or is long; the shell does, and to
# Python its line is a string.
_MILLRACE = """\
#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import sys

from cli.main import app

# A process that it spawns imports it, too.
if __name__ == "__main__":
    sys.exit(app())
"""


def install() -> None:
    wanted = _stamp()
    if not _is_current(wanted):
        _STAMP.unlink(missing_ok=True)
        with step("virtual environment .venv"):
            _create()
        with step("packages of requirements.lock"):
            _sync()
        _STAMP.write_text(wanted)
    _link_project()


def fit_python() -> str:
    """This interpreter if its version is supported, else one on PATH that is."""
    if sys.version_info[:2] in _VERSIONS:
        return sys.executable
    for major, minor in _VERSIONS:
        found = shutil.which(f"python{major}.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    raise CannotInstall("Python 3.11 or 3.12 is needed; make PYTHON=/path/to/python3.11 install")


def _stamp() -> str:
    """Changes when the lock does, when the folder moves, or when another Python makes it."""
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return f"{lock} {VENV} {sys.version_info.major}.{sys.version_info.minor}\n"


def _is_current(wanted: str) -> bool:
    return _STAMP.exists() and _STAMP.read_text() == wanted and PYTHON.exists()


def _create() -> None:
    # Reused when it is of the same Python at the same place: syncing is faster than making.
    marker = VENV / "pyvenv.cfg"
    if marker.exists() and PYTHON.exists():
        asked = subprocess.run(
            [str(PYTHON), "-c", "import sys; print(sys.version_info[:2], sys.prefix)"],
            capture_output=True,
            text=True,
            check=False,
        )
        head = (VENV / "bin" / "pip").read_text()[:300] if (VENV / "bin" / "pip").exists() else ""
        if asked.stdout.strip() == f"{sys.version_info[:2]} {VENV}" and str(VENV) in head:
            return
    run([sys.executable, "-m", "venv", "--clear", str(VENV)])


def _sync() -> None:
    uv_only = VENV / "uv.lock.txt"
    uv_only.write_text(_requirement("uv"))
    env = _index_settings()
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--no-deps", "-r", str(uv_only)])
    uv_only.unlink()
    uv = str(VENV / "bin" / "uv")
    try:
        sync = [uv, "pip", "sync", "-q", "--require-hashes", "--python", str(PYTHON), str(LOCK)]
        run(sync, env=env)
    except CannotInstall as problem:
        print(f"  uv could not, so pip does it (slower): {problem}", flush=True)
        run([*pip, "--require-hashes", "-r", str(LOCK)])


def _requirement(name: str) -> str:
    """The lines of one package in the lock, hashes included."""
    lines = LOCK.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = start
    while lines[end].endswith("\\"):
        end += 1
    return "\n".join(lines[start : end + 1]) + "\n"


def _index_settings() -> dict[str, str]:
    """pip's settings as uv's, which reads its own variables alone; what is set already stays."""
    pairs = {
        "UV_DEFAULT_INDEX": _pip_setting("index-url"),
        "UV_INDEX": _pip_setting("extra-index-url"),
        "UV_FIND_LINKS": _pip_setting("find-links"),
        "SSL_CERT_FILE": _pip_setting("cert"),
    }
    return {key: value for key, value in pairs.items() if value and key not in os.environ}


def _pip_setting(name: str) -> str:
    for key in (f":env:.{name}", f"install.{name}", f"global.{name}"):
        asked = subprocess.run(
            [str(PYTHON), "-m", "pip", "config", "get", key],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    return ""


def script(python: Path) -> str:
    """The command `millrace`, run by this interpreter."""
    return _MILLRACE.format(python=shlex.quote(str(python)))


def _link_project() -> None:
    site = next((VENV / "lib").glob("python3.*/site-packages"))
    _write(site / "millrace.pth", f"{ROOT}\n{ROOT / 'protos' / 'gen'}\n")
    _write(VENV / "bin" / "millrace", script(PYTHON), mode=0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(mode)
