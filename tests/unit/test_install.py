"""The installer: one message with the list where it may not install, and homes of every kind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import binaries, postgres
from deploy.local.install import __main__ as install
from deploy.local.install import jars, step, system, venv


@pytest.fixture
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("java", "maven", "postgres_bin", "memcached", "setpriv"):
        monkeypatch.setattr(binaries, program, lambda: None)
    monkeypatch.setattr(jars, "all_there", lambda: False)


@pytest.mark.usefixtures("nothing_there")
def test_who_may_not_install_is_told_every_package_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_privileged", lambda: None)
    with pytest.raises(step.CannotInstall) as told:
        system.install_missing()
    command = next(line for line in str(told.value).splitlines() if "apt-get install" in line)
    packages = {"openjdk-17-jre-headless", "maven", "postgresql", "memcached", "util-linux"}
    assert packages <= set(command.split())


@pytest.mark.usefixtures("nothing_there")
def test_postgresql_comes_without_a_server_that_nobody_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(system, "_privileged", lambda: ["sudo", "-n"])
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(system, "run", lambda argv: ran.append(" ".join(argv)))
    with pytest.raises(step.CannotInstall, match="still not found"):
        system.install_missing()
    assert all(line.startswith("sudo -n") for line in ran)
    note = next(at for at, line in enumerate(ran) if "create_main_cluster = false" in line)
    packages = next(at for at, line in enumerate(ran) if line.endswith("util-linux"))
    assert note < packages < next(at for at, line in enumerate(ran) if " rm -f " in line)


def test_nothing_is_asked_of_apt_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "missing_packages", list)
    monkeypatch.setattr(system, "run", lambda argv: pytest.fail(f"ran {argv}"))
    system.install_missing()


def test_downloads_lie_in_a_home_that_can_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert step.cache_folder() == tmp_path / ".cache" / "millrace"
    (tmp_path / "file").touch()
    for home in ("relative", "", "/proc/no-such-home", str(tmp_path / "file")):
        monkeypatch.setenv("HOME", home)
        assert step.cache_folder() == step.ROOT / "build" / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert step.cache_folder() == tmp_path / "cache" / "millrace"


def test_the_command_runs_from_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    venv._write(folder / "millrace", venv.script(python), mode=0o755)
    path = os.pathsep.join(part for part in sys.path if part)
    asked = [str(folder / "millrace"), "--help"]
    done = subprocess.run(
        asked, capture_output=True, text=True, env={"PYTHONPATH": path}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "load-graph" in done.stdout


def test_a_folder_that_is_not_ours_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "build").touch()
    monkeypatch.setattr(install, "ROOT", tmp_path)
    assert install.told_main() == 2
    said = capsys.readouterr().err
    assert said.startswith("make install: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("folder", "compression"),
    [
        ("/usr/lib/postgresql/14/bin", "off"),
        ("/usr/lib/postgresql/15/bin", "lz4"),
        ("/somewhere/bin", "off"),
    ],
)
def test_pages_in_postgresqls_log_are_packed_by_lz4_where_it_is(
    folder: str, compression: str
) -> None:
    assert postgres.wal_compression(binaries.postgres_major(Path(folder))) == compression
