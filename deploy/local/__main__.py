"""`python -m deploy.local up|stop|status`: the servers alone, for development and tests.

Exit codes: 0 done; 1 a child failed for good; 2 wrong usage; 3 one is running already (up), or
none is (stop, status).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from deploy.local import status
from deploy.local.child import CommandFailed
from deploy.local.ports import NoFreePort
from deploy.local.stack import DATA_DIR_DEFAULT, SERVERS, AlreadyRunning, LocalStack, StackSettings
from deploy.local.watch import ChildFailed, RestartPolicy

_STOP_TIMEOUT_S = 60


def main() -> int:
    arguments = _arguments()
    data_dir = arguments.data.absolute()
    if arguments.command == "up":
        return _up(arguments, data_dir)
    running = status.read(data_dir)
    if running is None or not running.running():
        print(f"nothing runs in {data_dir}", file=sys.stderr)
        return 3
    return _stop(running) if arguments.command == "stop" else _show(running)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the servers and stay until Ctrl-C")
    up.add_argument("--servers-only", action="store_true", required=True)
    up.add_argument("--other-ports", action="store_true", help="leave the well-known ports free")
    up.add_argument("--only", nargs="+", choices=SERVERS, default=SERVERS, metavar="SERVER")
    up.add_argument("--stop-on-death", action="store_true", help="stop all when a child dies")
    stop = commands.add_parser("stop", help="stop the stack, also one of `millrace up`")
    show = commands.add_parser("status", help="what runs, and where")
    for command in (up, stop, show):
        command.add_argument("--data", type=Path, default=DATA_DIR_DEFAULT, metavar="DIR")
    return parser.parse_args()


def _up(arguments: argparse.Namespace, data_dir: Path) -> int:
    settings = StackSettings(
        data_dir=data_dir,
        servers=tuple(arguments.only),
        usual_ports=not arguments.other_ports,
        restarts=RestartPolicy(on_death="stop the stack" if arguments.stop_on_death else "restart"),
    )
    try:
        asyncio.run(_serve(settings))
    except AlreadyRunning as problem:
        print(problem, file=sys.stderr)
        return 3
    except (ChildFailed, CommandFailed, NoFreePort, OSError) as problem:
        print(f"stopped: {problem}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: StackSettings) -> None:
    started = time.monotonic()
    stack = LocalStack(settings, report=lambda text: print(text, flush=True))

    async def work() -> None:
        print(f"ready in {time.monotonic() - started:.1f} s; Ctrl-C stops", flush=True)
        print(f"addresses: {stack.status_file}", flush=True)
        await stack.until_over()

    await stack.serve(work)


def _stop(running: status.StackStatus) -> int:
    launcher = running.launcher and running.launcher.alive()
    if launcher:
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(_STOP_TIMEOUT_S)
    return 0


def _show(running: status.StackStatus) -> int:
    for name, child in running.children.items():
        pid = child.process.pid if child.process else "-"
        print(f"{name:<14} {child.state:<12} pid {pid!s:<8} restarts {child.restarts}")
    for name, value in running.settings.items():
        print(f"{name:<20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
