"""Where this machine keeps the servers' programs; None where it has none that is fit.

Looks at what is there, never at package names, so any way of installing will do.
Imports the standard library alone: the installer asks before a virtual environment exists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

# Cassandra 5.0 supports Java 11 and 17, Kafka 4 needs 17 or later: 17 is the one both are made for.
JAVA_BEST = 17
JAVA_OLDEST = 17
# Correct compare-and-set values of meta commands (leases) came with this version.
MEMCACHED_OLDEST = (1, 6, 13)
_PROBE_TIMEOUT_S = 20


def java() -> Path | None:
    """The Java to run the servers with: 17 if any is 17, else the oldest that is newer."""
    places = [Path(home, "bin", "java") for home in [os.environ.get("JAVA_HOME")] if home]
    if on_path := shutil.which("java"):
        places.append(Path(on_path))
    places += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    fit: dict[int, Path] = {}
    for place in places:
        version = _java_version(place)
        if version == JAVA_BEST:
            return place
        if version is not None and version >= JAVA_OLDEST:
            fit.setdefault(version, place)
    return fit[min(fit)] if fit else None


def maven() -> Path | None:
    found = shutil.which("mvn")
    return Path(found) if found else None


def memcached() -> Path | None:
    found = shutil.which("memcached")
    if found is None:
        return None
    version = tuple(map(int, re.findall(r"\d+", _output([found, "--version"]))[:3]))
    return Path(found) if version >= MEMCACHED_OLDEST else None


def postgres_bin() -> Path | None:
    """The folder with `initdb` and `postgres` of the newest PostgreSQL here."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=postgres_major, reverse=True)
    if shutil.which("pg_config"):
        places.append(Path(_output(["pg_config", "--bindir"]).strip() or "/nonexistent"))
    if initdb := shutil.which("initdb"):
        places.append(Path(initdb).resolve().parent)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    return None


def setpriv() -> Path | None:
    """Starts a child as another user that ends with its parent (util-linux)."""
    found = shutil.which("setpriv")
    return Path(found) if found else None


def postgres_major(bin_folder: Path) -> float:
    """As the folder's path tells; 0 where it does not."""
    try:
        return float(bin_folder.parent.name)
    except ValueError:
        return 0.0


def _java_version(java: Path) -> int | None:
    found = re.search(r'version "(\d+)', _output([str(java), "-version"]))
    return int(found[1]) if found else None


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
