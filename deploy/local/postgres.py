"""PostgreSQL on loopback, as `postgres` when we are root, with a password of its own.

Everything lies in one folder that belongs to the server's user: `data/`, `password` and, where
the path is short enough for one, `run/` with the Unix socket. `data/` is there whole or not at
all. When the server's user cannot reach the data directory (a home with mode 0700), the folder
is made under /var/lib/millrace and a link points to it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import signal
import subprocess
from pathlib import Path

import asyncpg
import psutil

from deploy.local import binaries
from deploy.local.child import Child, CommandFailed, bound_argv, run
from deploy.local.ports import LOOPBACK, Ports

NAME = "postgres"
DATABASE = "millrace"
_USUAL_PORT = 5432
# The kernel's limit for the path of a Unix socket is 107 bytes, the name included.
_SOCKET_FOLDER_BYTES_MAX = 107 - len("/.s.PGSQL.65535.lock")
_OUT_OF_HOME = Path("/var/lib/millrace")
_GONE_POLL_S = 0.1
_GONE_POLLS_MAX = 30
_LZ4_SINCE = 15
_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "jit": "off",
    "log_checkpoints": "off",
    # Neither statements nor values: a broken constraint would quote the row.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
}


def child(folder: Path, ports: Ports, *, log: Path) -> tuple[Child, dict[str, object]]:
    """The child, and its keys in stack.json. Makes the folder and the password."""
    bin_folder = binaries.postgres_bin()
    if bin_folder is None:
        raise CommandFailed("PostgreSQL's initdb and postgres are missing: make install")
    user = _server_user(folder)
    home = _home(folder, user)
    password = _password(home, user)
    port = ports.take(NAME, _USUAL_PORT)
    dsn = f"postgresql://{DATABASE}:{password}@{LOOPBACK}:{port}/{DATABASE}"

    async def prepare() -> None:
        await _until_gone(home)
        if not (home / "data").exists():
            await _initdb(bin_folder, home, user, log)
        _remove_stale_pid(home / "data")

    sockets = (
        str(home / "run") if len(os.fsencode(home / "run")) <= _SOCKET_FOLDER_BYTES_MAX else ""
    )
    settings = _SETTINGS | {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": sockets,
        "wal_compression": wal_compression(binaries.postgres_major(bin_folder)),
    }
    server = Child(
        name=NAME,
        argv=(
            str(bin_folder / "postgres"),
            *("-D", str(home / "data")),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ),
        prepare=prepare,
        ready=lambda: _answer(dsn),
        cwd=home,
        user=user,
        # "Fast": sessions are ended, the data are flushed. Without a launcher "immediate":
        # the postmaster takes its children with it, and the next start recovers from the log.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGQUIT,
    )
    return server, {"postgres_dsn": dsn}


def wal_compression(major: float) -> str:
    """Never "on": PostgreSQL's own pglz takes three times as long as building the index whose pages
    it packs.
    """
    return "lz4" if major >= _LZ4_SINCE else "off"


async def _until_gone(home: Path) -> None:
    """A killed postmaster's children hold the shared memory until they notice."""
    for _ in range(_GONE_POLLS_MAX):
        if not leftovers(home):
            return
        await asyncio.sleep(_GONE_POLL_S)
    for process in leftovers(home):
        process.kill()


def leftovers(folder: Path) -> list[psutil.Process]:
    """Processes of a server that was killed; its children end by themselves within moments."""
    data = str((folder / "data").resolve())
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"].startswith("postgres") and process.cwd() == data:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _server_user(folder: Path) -> int | None:
    """None: the launcher's. Root may not run the server, so then who owns the data, or postgres."""
    if os.geteuid() != 0:
        return None
    if folder.exists() and folder.stat().st_uid != 0:
        return folder.stat().st_uid
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise CommandFailed("running as root, and there is no user `postgres` to run the server as")


def _home(folder: Path, user: int | None) -> Path:
    """The server's folder, made where its user can reach it."""
    if folder.exists():
        return folder.resolve()
    home = folder
    if user is not None and not _reaches(folder.parent, user):
        # A name that nothing else ever had: a new data directory must not find old tables.
        home = _OUT_OF_HOME / secrets.token_hex(8)
        home.parent.mkdir(mode=0o755, exist_ok=True)
        folder.symlink_to(home)
    home.mkdir(mode=0o700)
    (home / "run").mkdir(mode=0o700)
    if user is not None:
        os.chown(home, user, -1)
        os.chown(home / "run", user, -1)
    return home


def _reaches(folder: Path, user: int) -> bool:
    argv = bound_argv(("test", "-x", str(folder)), user=user)
    return subprocess.run(argv, check=False).returncode == 0


def _password(home: Path, user: int | None) -> str:
    file = home / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
        if user is not None:
            os.chown(file, user, -1)
    return file.read_text().strip()


async def _initdb(bin_folder: Path, home: Path, user: int | None, log: Path) -> None:
    half = home / "data.new"
    await run(("rm", "-rf", str(half)), log)
    argv = (
        *(str(bin_folder / "initdb"), "-D", str(half), "-U", DATABASE, "-A", "scram-sha-256"),
        *("--pwfile", str(home / "password"), "--encoding", "UTF8", "--locale", "C.UTF-8"),
    )
    await run(argv, log, user=user)
    half.rename(home / "data")


def _remove_stale_pid(data: Path) -> None:
    """After a kill the number in postmaster.pid may be anybody's; then the server would refuse.

    Called with the lock of the data directory held and leftovers gone.
    """
    file = data / "postmaster.pid"
    if file.exists():
        pid = int(file.read_text().split()[0])
        alive = psutil.pid_exists(pid) and psutil.Process(pid).name().startswith("postgres")
        if not alive:
            file.unlink()


async def _answer(dsn: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=4)
    except asyncpg.InvalidCatalogNameError:
        maker = await asyncpg.connect(dsn, database="postgres", timeout=4)
        await maker.execute(f"CREATE DATABASE {DATABASE}")
        await maker.close()
        connection = await asyncpg.connect(dsn, timeout=4)
    await connection.fetchval("SELECT 1")
    await connection.close()
