"""View stores for tests: `postgres_store` and `memory_store`, each empty and one's own.

A database is made from a template that was migrated once, which takes about a tenth of a second.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.local.status import StackStatus
from millrace.settings import Settings
from millrace.stores.memory import MemoryStore
from millrace.stores.migrate import migrate
from millrace.stores.postgres import PostgresStore


@asynccontextmanager
async def database(settings: Settings, template: str = "template1") -> AsyncIterator[Settings]:
    """A new database as a copy of `template`, to which nobody may be connected; dropped after."""
    name = f"t{token_hex(6)}"
    admin = await asyncpg.connect(settings.postgres_dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        dsn = urlsplit(settings.postgres_dsn)._replace(path=f"/{name}").geturl()
        yield settings.model_copy(update={"postgres_dsn": dsn})
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


@asynccontextmanager
async def template(
    settings: Settings, fill: Callable[[Settings], Awaitable[object]]
) -> AsyncIterator[str]:
    """Name of a database that `fill` has filled once."""
    async with database(settings) as made:
        await fill(made)
        yield urlsplit(made.postgres_dsn).path.removeprefix("/")


@pytest.fixture(scope="session")
def stack_settings(stack: StackStatus) -> Settings:
    return Settings(**stack.settings)


@pytest.fixture(scope="session")
async def migrated_template(stack_settings: Settings) -> AsyncIterator[str]:
    async with template(stack_settings, migrate) as name:
        yield name


@pytest.fixture
async def postgres_settings(
    stack_settings: Settings, migrated_template: str
) -> AsyncIterator[Settings]:
    """Settings whose `postgres_dsn` names a migrated, empty database."""
    async with database(stack_settings, migrated_template) as settings:
        yield settings


@pytest.fixture
async def postgres_store(postgres_settings: Settings) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_settings)
    yield store
    await store.close()


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore()
