"""Plans that PostgreSQL makes while a table is empty must be right for millions of rows."""

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from millrace.settings import Settings
from millrace.stores import ddl
from millrace.stores.edge_sql import count_sql, edge_sql
from millrace.stores.postgres_pool import open_pool
from millrace.stores.row_sql import linked_sql, numbers_sql, row_sql
from tests.contract.view_stores import emptied
from tests.sample_view import BONDS, CELLS, ITEMS, SAMPLE, SHELF

ONE, YES = "'{1}'", "'{t}'"
STATEMENTS = {
    "apply": (edge_sql(BONDS).apply, (ONE, ONE, ONE, ONE, ONE, YES)),
    "among": (edge_sql(BONDS).among, (ONE, ONE)),
    "page": (edge_sql(BONDS).page, ("1", "1", "9", "10")),
    "inverse page": (edge_sql(BONDS).inverse_page, ("1", "1", "9", "10")),
    "timeline": (edge_sql(SHELF).page, ("1", "1", "9", "10")),
    "merged page": (edge_sql(SHELF).merged_page, (ONE, "9", "10")),
    "count": (count_sql("bonds_count"), (ONE,)),
    "rows": (row_sql(ITEMS).read, (ONE,)),
    "numbers": (numbers_sql(ITEMS), (ONE,)),
    "rows with those that they name": (linked_sql(ITEMS, "owner_id", ITEMS, "title"), (ONE,)),
    "rows by five columns": (row_sql(CELLS).read, (ONE, ONE, "'{a}'", "'{a}'", YES)),
    "claims": (row_sql(ITEMS).read_claims, (ONE, "'{a}'")),
}


def table_scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan
    for part in plan.get("Plans", ()):
        yield from table_scans(part)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_each_look_is_by_index(sample_settings: Settings, name: str) -> None:
    await emptied(sample_settings)
    connection = await asyncpg.connect(sample_settings.postgres_dsn)
    # Now the server knows that there is nothing in them.
    await connection.execute(f"VACUUM ANALYZE {', '.join(ddl.table_names(SAMPLE))}")
    await connection.close()
    statement, arguments = STATEMENTS[name]
    pool = await open_pool(sample_settings, sample_settings.postgres_dsn)
    async with pool.acquire() as pooled:
        await pooled.execute(f"PREPARE planned AS {statement}")
        explained = await pooled.fetchval(
            f"EXPLAIN (FORMAT JSON) EXECUTE planned ({', '.join(arguments)})"
        )
    await pool.close()
    scans = list(table_scans(json.loads(explained)[0]["Plan"]))
    assert scans
    for scan in scans:
        assert scan["Node Type"] in ("Index Scan", "Index Only Scan"), scan
        assert "Index Cond" in scan
