"""System packages by apt: only for what is really missing, only where that is allowed.

Debian 12 and Ubuntu. Without root or passwordless sudo nothing is tried: CannotInstall says
the exact command to type.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local import binaries
from deploy.local.install import jars
from deploy.local.install.step import CannotInstall, run, step
from deploy.local.install.venv import VENV

_CREATECLUSTER = Path("/etc/postgresql-common/createcluster.d")


def missing_packages() -> list[str]:
    """Names of apt packages for what was looked for and not found."""
    needs = {
        f"python3.{sys.version_info.minor}-venv": (
            VENV.exists() or importlib.util.find_spec("ensurepip") is not None
        ),
        "openjdk-17-jre-headless": binaries.java() is not None,
        "maven": binaries.maven() is not None or jars.all_there(),
        "postgresql": binaries.postgres_bin() is not None,
        "memcached": binaries.memcached() is not None,
        "util-linux": binaries.setpriv() is not None,
    }
    return [package for package, there in needs.items() if not there]


def install_missing() -> None:
    packages = missing_packages()
    if not packages:
        return
    prefix = _privileged()
    if prefix is None or shutil.which("apt-get") is None:
        wanted = " ".join(packages)
        raise CannotInstall(
            f"these are missing and this user may not install them: {wanted}\n"
            f"please run, or have somebody run:\n  sudo apt-get update && "
            f"sudo apt-get install -y --no-install-recommends {wanted}\n"
            f"and then this again"
        )
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
    # Another apt may be at work, as on an Ubuntu that updates itself.
    apt += ["-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "--no-install-recommends"]
    with step("package lists"):
        run([*apt, "update"])
    with step("packages " + " ".join(packages)):
        if "postgresql" not in packages:
            run([*install, *packages])
        else:
            run([*install, "postgresql-common"])
            with _no_default_cluster(prefix):
                run([*install, *packages])
    if still := missing_packages():
        raise CannotInstall(f"installed by apt, yet still not found or too old: {still}")


def _privileged() -> list[str] | None:
    """What to put before a command so that it runs as root; None where that is not allowed."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if asked.returncode == 0 else None


@contextmanager
def _no_default_cluster(prefix: list[str]) -> Iterator[None]:
    """Keep the package from creating and starting a server that nobody asked for.

    The file goes again, so that what somebody installs later behaves as Debian says.
    """
    note = _CREATECLUSTER / "millrace-install.conf"
    command = f"mkdir -p {_CREATECLUSTER} && echo 'create_main_cluster = false' > {note}"
    run([*prefix, "sh", "-c", command])
    try:
        yield
    finally:
        run([*prefix, "rm", "-f", str(note)])
