"""`python3 -m deploy.local.install`: everything that is missing, in the order it is needed.

Exit codes: 0 all there; 2 something could not be installed, with one message that says what.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from deploy.local.install import jars, node, system, venv
from deploy.local.install.step import ROOT, CannotInstall


def main() -> int:
    python = venv.fit_python()
    if python != sys.executable:
        os.execv(python, [python, "-m", "deploy.local.install"])  # noqa: S606
    (ROOT / "build").mkdir(exist_ok=True)
    started = time.monotonic()
    # Two terminals may ask at once; the second waits and then finds all there.
    with (ROOT / "build" / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        system.install_missing()
        # Maven and pip wait for the network, not for each other.
        with ThreadPoolExecutor() as pool:
            for job in [pool.submit(jars.install), pool.submit(_python_then_node)]:
                job.result()
    if (took_s := time.monotonic() - started) > 1:
        print(f"  all installed in {took_s:.0f} s", flush=True)
    return 0


def _python_then_node() -> None:
    venv.install()
    node.install()


def told_main() -> int:
    try:
        return main()
    except (CannotInstall, OSError) as problem:
        print(f"make install: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(told_main())
