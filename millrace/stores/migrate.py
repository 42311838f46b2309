"""Numbered migrations of the PostgreSQL schema: forward only, each recorded with its SHA-256.

A file that was applied must never change: that stops every process and the next `migrate`. A
schema that is newer than the code is right, since two versions run side by side in a deploy.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import asyncpg

from millrace.errors import Bug, FailedPrecondition
from millrace.settings import Settings
from millrace.stores.postgres_errors import translated
from millrace.stores.postgres_pool import Connection

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# Any number that nothing else in this database locks.
_LOCK = 0x6D696C6C
_RECORDS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  number integer PRIMARY KEY,
  name text NOT NULL,
  sha256 bytea NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def migrations() -> list[Migration]:
    """The files of the package, by number, which starts at 1 and leaves none out."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in resources.files("millrace.stores").joinpath("migrations").iterdir()
        if (match := _FILE.fullmatch(file.name))
    ]
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise Bug("the numbers of the migrations have a gap or a double")
    return found


async def migrate(settings: Settings, files: Sequence[Migration] | None = None) -> list[str]:
    """Applies what is missing, each file in one transaction; returns the names of those.

    Processes that migrate at the same time wait for each other. Raises FailedPrecondition when
    an applied file has changed, StoreUnavailable when the server does not answer.
    """
    wanted = migrations() if files is None else files
    with translated("migrate"):
        connection = await asyncpg.connect(
            settings.postgres_dsn, timeout=settings.postgres_timeout_s
        )
        try:
            # For the session: it also keeps two from creating the table of records at once.
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute("SET client_min_messages = warning")
            await connection.execute(_RECORDS)
            return await _apply_missing(connection, wanted)
        finally:
            await connection.close(timeout=settings.postgres_timeout_s)


async def check_schema(connection: Connection, files: Sequence[Migration] | None = None) -> None:
    """For the start of every process. Raises FailedPrecondition when the schema is older than
    the code, or made by files that have changed since.
    """
    wanted = migrations() if files is None else files
    try:
        applied = await _applied(connection)
    except asyncpg.UndefinedTableError:
        applied = {}
    _check_unchanged(wanted, applied)
    missing = [migration for migration in wanted if migration.number not in applied]
    if missing:
        raise FailedPrecondition(
            f"the schema is {len(missing)} migrations older than the code: run `millrace migrate`",
            reason="SCHEMA_OUTDATED",
        )


async def _apply_missing(connection: Connection, wanted: Sequence[Migration]) -> list[str]:
    applied = await _applied(connection)
    _check_unchanged(wanted, applied)
    done = []
    for migration in wanted:
        if migration.number in applied:
            continue
        name = f"{migration.number:04}_{migration.name}"
        async with connection.transaction():
            try:
                await connection.execute(migration.sql)
            except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
                raise Bug(f"migration {name}: {error}") from error
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES ($1, $2, $3)",
                *(migration.number, migration.name, migration.sha256),
            )
        done.append(name)
    return done


async def _applied(connection: Connection) -> dict[int, bytes]:
    records = await connection.fetch("SELECT number, sha256 FROM schema_migrations")
    return {record["number"]: record["sha256"] for record in records}


def _check_unchanged(wanted: Sequence[Migration], applied: dict[int, bytes]) -> None:
    for migration in wanted:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise FailedPrecondition(
                f"migration {migration.number:04}_{migration.name} was applied and has changed "
                "since: put the file back and write a new one",
                reason="MIGRATION_CHANGED",
            )
