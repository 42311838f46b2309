"""The servers' jars by Maven, one folder a server and version, in the cache outside git.

A folder is complete or absent: Maven fills a folder beside it, which is then renamed. The
pom's hash lies in it, so that a changed pom is fetched anew.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from deploy.local import binaries
from deploy.local.install.step import ROOT, CannotInstall, cache_folder, run, step

SERVERS = ("kafka", "cassandra")
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.10.0:copy-dependencies"
_POM = "{http://maven.apache.org/POM/4.0.0}"
_HASH_FILE = "pom.sha256"


def folder(server: str) -> Path:
    """Where the jars of `server` are, or will be after `install`."""
    # Our own file, so the warnings about hostile XML do not apply.
    version = ET.parse(_pom(server)).getroot().findtext(f"{_POM}version")  # noqa: S314
    return cache_folder() / "jars" / f"{server}-{version}"


def all_there() -> bool:
    return all(_is_there(server) for server in SERVERS)


def install() -> None:
    for server in SERVERS:
        if not _is_there(server):
            with step(f"jars of {folder(server).name}"):
                _fetch(server)


def _fetch(server: str) -> None:
    mvn = binaries.maven()
    if mvn is None:
        raise CannotInstall("Maven (mvn) is not on PATH")
    target = folder(server)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{server}-") as half:
        filled = Path(half, "jars")
        run(
            [
                *(str(mvn), "-q", "-B", "--strict-checksums", "-f", str(_pom(server))),
                # Java takes the home from the user data base, which an empty HOME does not
                # change; the cache is the one place known to be writable.
                f"-Dmaven.repo.local={cache_folder() / 'maven'}",
                *(f"-DoutputDirectory={filled}", "-DincludeScope=runtime", _COPY),
            ]
        )
        (filled / _HASH_FILE).write_text(_pom_hash(server))
        shutil.rmtree(target, ignore_errors=True)
        filled.rename(target)


def _is_there(server: str) -> bool:
    noted = folder(server) / _HASH_FILE
    return noted.exists() and noted.read_text() == _pom_hash(server)


def _pom(server: str) -> Path:
    return ROOT / "deploy" / "local" / server / "pom.xml"


def _pom_hash(server: str) -> str:
    return hashlib.sha256(_pom(server).read_bytes()).hexdigest()
