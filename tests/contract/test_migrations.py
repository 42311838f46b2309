"""Migrations: they build what the views declare, once, in order, and never change afterwards."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from millrace.errors import Bug, FailedPrecondition, InvalidRequest
from millrace.settings import Settings
from millrace.stores import ddl
from millrace.stores.migrate import Migration, check_schema, migrate, migrations
from millrace.stores.postgres import PostgresStore
from millrace.stores.schema import Column, EdgeTable, RowTable, ViewSchema
from millrace.views import VIEWS
from millrace.views.render_migration import render
from tests.databases import database

_COLUMNS = """
SELECT table_name, column_name, data_type, column_default, is_nullable, collation_name
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> $1
ORDER BY table_name, column_name"""
_INDEXES = """
SELECT tablename, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> $1 ORDER BY indexname"""
_OPTIONS = """
SELECT relname, reloptions FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname !~ $1 ORDER BY relname"""

ONE = Migration(1, "one", "CREATE TABLE one (id bigint)")
TWO = Migration(2, "two", "CREATE TABLE two (id bigint); INSERT INTO two VALUES (1)")


@pytest.fixture
async def empty(stack_settings: Settings) -> AsyncIterator[Settings]:
    async with database(stack_settings) as settings:
        yield settings


async def schema_of(settings: Settings) -> list[list[asyncpg.Record]]:
    connection = await asyncpg.connect(settings.postgres_dsn)
    queries = (_COLUMNS, _INDEXES, _OPTIONS)
    found = [await connection.fetch(query, "schema_migrations") for query in queries]
    await connection.close()
    return found


async def test_migrations_build_what_is_declared(stack_settings: Settings, empty: Settings) -> None:
    await migrate(empty)
    async with database(stack_settings) as declared:
        connection = await asyncpg.connect(declared.postgres_dsn)
        await connection.execute(";".join(ddl.statements(v.schema for v in VIEWS).values()))
        await connection.close()
        assert await schema_of(empty) == await schema_of(declared)


def test_nothing_is_left_to_render() -> None:
    wanted = ddl.statements(view.schema for view in VIEWS)
    assert render(wanted, [migration.sql for migration in migrations()]) == ""


async def test_each_is_applied_once_also_by_several_at_once(empty: Settings) -> None:
    assert await migrate(empty, [ONE]) == ["0001_one"]
    done = await asyncio.gather(*(migrate(empty, [ONE, TWO]) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["0002_two"]]


async def test_one_that_fails_leaves_nothing(empty: Settings) -> None:
    broken = Migration(2, "two", TWO.sql + "; SELECT 1 / 0")
    with pytest.raises(Bug, match="0002_two: division by zero"):
        await migrate(empty, [ONE, broken])
    assert await migrate(empty, [ONE, TWO]) == ["0002_two"]


async def test_a_changed_file_stops_everything(empty: Settings) -> None:
    await migrate(empty, [ONE])
    changed = Migration(1, "one", ONE.sql + " -- better")
    with pytest.raises(FailedPrecondition, match="0001_one was applied and has changed"):
        await migrate(empty, [changed, TWO])
    connection = await asyncpg.connect(empty.postgres_dsn)
    with pytest.raises(FailedPrecondition, match="has changed"):
        await check_schema(connection, [changed])
    with pytest.raises(FailedPrecondition, match="1 migrations older"):
        await check_schema(connection, [ONE, TWO])
    # Of two versions that run side by side, the older one finds a newer schema.
    await check_schema(connection, [])
    await connection.close()


async def test_a_process_does_not_start_on_an_old_schema(empty: Settings) -> None:
    with pytest.raises(FailedPrecondition, match="run `millrace migrate`"):
        await PostgresStore.open(empty)
    await migrate(empty)
    store = await PostgresStore.open(empty)
    await store.close()


THINGS = RowTable("things", (Column("id"),), (Column("size", "int"),))


def wanted(*rows: RowTable) -> dict[str, str]:
    return ddl.statements([ViewSchema("v", ("t",), rows=rows)])


def test_new_tables_and_columns_are_rendered() -> None:
    first = render(wanted(THINGS), [])
    assert 'CREATE TABLE "things"' in first
    wider = RowTable("things", THINGS.key, (*THINGS.columns, Column("name", "text")))
    second = render(wanted(wider), [first])
    added = 'ADD COLUMN "name" text COLLATE "C" NOT NULL DEFAULT \'\';'
    assert f'ALTER TABLE "things" {added}' in second
    assert "CREATE" not in second
    assert render(wanted(wider), [first, second]) == ""


def test_what_needs_a_person_is_refused() -> None:
    first = render(wanted(THINGS), [])
    with pytest.raises(InvalidRequest, match="size"):
        render(wanted(RowTable("things", THINGS.key, (Column("size"),))), [first])
    with pytest.raises(InvalidRequest, match="things"):
        render(wanted(), [first])


@pytest.mark.parametrize(
    "schema",
    [
        ViewSchema("v", (), rows=(RowTable('a"; DROP TABLE users; --', (Column("id"),), ()),)),
        ViewSchema("v", (), rows=(RowTable("a", (Column("id"),), (Column("number"),)),)),
        ViewSchema("v", (), edges=(EdgeTable("a", "user_id", "user_id"),)),
        ViewSchema("v", (), edges=(EdgeTable("a", "b_id", "c_id", count="a"),)),
    ],
)
def test_names_that_cannot_be(schema: ViewSchema) -> None:
    with pytest.raises(Bug):
        ddl.statements([schema])
