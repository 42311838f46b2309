"""SQL of one edge table. Text only: built once from the declaration, prepared once a connection.

A plan may be made while a table is empty and used when it holds millions. So no statement
leaves a choice: each lookup is a LATERAL subquery with a LIMIT, which the planner cannot turn
into a join over the whole table.
"""

from dataclasses import dataclass
from functools import cache

from millrace.stores.ddl import quoted
from millrace.stores.schema import EdgeTable


@dataclass(frozen=True, slots=True)
class EdgeSql:
    """Parameters in the docstrings of the functions that build them. Pages are bounded by
    `low` and `high`, both included.
    """

    apply: str
    among: str
    page: str
    inverse_page: str
    inverse_ids: str
    merged_page: str
    scan: str


@cache
def edge_sql(table: EdgeTable) -> EdgeSql:
    return EdgeSql(
        apply=_apply(table),
        among=_among(table),
        page=_page(table.name, table.source, table.target, newest_first=table.newest_first),
        inverse_page=_page(table.inverse, table.target, table.source) if table.inverse else "",
        inverse_ids=_inverse_ids(table) if table.inverse else "",
        merged_page=_merged_page(table),
        scan=_scan(table),
    )


@cache
def count_sql(name: str) -> str:
    """$1 ids → (id, value) of those that have a counter."""
    return f"SELECT id, value FROM {quoted(name)} WHERE id = ANY($1::bigint[])"


@cache
def count_scan_sql(name: str) -> str:
    """Every counter that is not zero, by id."""
    return f"SELECT id, value FROM {quoted(name)} WHERE value <> 0 ORDER BY id"


def _apply(table: EdgeTable) -> str:
    """$1 sources, $2 targets, $3 order, $4 begun (0: not live), $5 begun_at_ms, $6 ended; in any
    order, each pair once.

    `change` holds the edges that really change and what they were, from one snapshot. Nobody
    else writes these edges: their partitions' positions are locked by this transaction, so an
    absent row stays absent and needs no ON CONFLICT, which costs a sixth of the statement (and
    if it ever were there, the unique key would stop the batch). Counters have many writers: they
    are locked in key order, and the order of the parts is the same in each execution, since the
    plan is.
    """
    source, target = quoted(table.source), quoted(table.target)
    parts = [
        f"""change AS MATERIALIZED (
  SELECT f.source, f.target, f.number, f.begun > 0 AS live, e.number IS NULL AS fresh,
    CASE WHEN f.begun > 0 AND (f.ended OR e.live IS NOT TRUE) THEN f.begun
      ELSE coalesce(e.version, 0) END AS version,
    CASE WHEN f.begun > 0 AND (f.ended OR e.live IS NOT TRUE) THEN f.begun_at_ms
      ELSE coalesce(e.at_ms, 0) END AS at_ms,
    (f.begun > 0)::int - coalesce(e.live, false)::int AS delta
  FROM (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
      $6::bool[]) AS u (source, target, number, begun, begun_at_ms, ended)
    ORDER BY source, target
  ) f
  LEFT JOIN LATERAL (
    SELECT number, version, at_ms, live FROM {quoted(table.name)}
    WHERE {source} = f.source AND {target} = f.target LIMIT 1
  ) e ON true
  WHERE f.number > coalesce(e.number, 0)
)""",
        *_write("forward", table.name, table),
    ]
    if table.inverse:
        parts += _write("inverse", table.inverse, table)
    if table.count:
        parts.append(_count("counted", table.count, "source"))
    if table.inverse_count:
        parts.append(_count("inverse_counted", table.inverse_count, "target"))
    return f"WITH {', '.join(parts)}\nSELECT count(*) FROM change"


def _write(part: str, name: str, table: EdgeTable) -> list[str]:
    into, source, target = quoted(name), quoted(table.source), quoted(table.target)
    order = "" if name == table.name else " ORDER BY target, source"
    insert = f"""INSERT INTO {into} ({source}, {target}, number, version, at_ms, live)
  SELECT source, target, number, version, at_ms, live FROM change"""
    return [
        f"""{part}_new AS (
  {insert} WHERE fresh{order}
)""",
        f"""{part}_old AS (
  {insert} WHERE NOT fresh{order}
  ON CONFLICT ({source}, {target}) DO UPDATE SET number = excluded.number,
    version = excluded.version, at_ms = excluded.at_ms, live = excluded.live
)""",
    ]


def _count(part: str, name: str, side: str) -> str:
    return f"""{part} AS (
  INSERT INTO {quoted(name)} AS c (id, value)
  SELECT {side}, sum(delta) FROM change GROUP BY {side} HAVING sum(delta) <> 0 ORDER BY {side}
  ON CONFLICT (id) DO UPDATE SET value = c.value + excluded.value
)"""


def _among(table: EdgeTable) -> str:
    """$1 sources, $2 targets → live edges among the pairs."""
    source, target = quoted(table.source), quoted(table.target)
    return f"""SELECT w.source, w.target, e.version, e.at_ms
FROM unnest($1::bigint[], $2::bigint[]) AS w (source, target)
CROSS JOIN LATERAL (
  SELECT version, at_ms FROM {quoted(table.name)}
  WHERE {source} = w.source AND {target} = w.target AND live LIMIT 1
) e"""


def _page(name: str, one: str, other: str, *, newest_first: bool = False) -> str:
    """$1 the one side, $2 low, $3 high, $4 limit → (other, version, at_ms)."""
    direction = " DESC" if newest_first else ""
    return f"""SELECT {quoted(other)}, version, at_ms FROM {quoted(name)}
WHERE {quoted(one)} = $1 AND {quoted(other)} BETWEEN $2 AND $3 AND live
ORDER BY {quoted(other)}{direction} LIMIT $4"""


def _inverse_ids(table: EdgeTable) -> str:
    """$1 targets, $2 limit → (target, array of its first live sources).

    An array a target, since a record costs more than all of its ids.
    """
    source, target = quoted(table.source), quoted(table.target)
    return f"""SELECT t.target, ARRAY(
  SELECT e.{source} FROM {quoted(table.inverse)} e
  WHERE e.{target} = t.target AND e.live ORDER BY e.{source} LIMIT $2
) FROM unnest($1::bigint[]) AS t (target)"""


def _merged_page(table: EdgeTable) -> str:
    """$1 sources, $2 high, $3 limit → edges, newest first.

    What is among the newest n of all belongs to one of the n sources whose own newest are the
    newest; so each source costs one look at the index, and only n of them are read on.
    """
    source, target, name = quoted(table.source), quoted(table.target), quoted(table.name)
    return f"""WITH newest AS MATERIALIZED (
  SELECT s.source, n.target FROM unnest($1::bigint[]) AS s (source)
  CROSS JOIN LATERAL (
    SELECT e.{target} AS target FROM {name} e
    WHERE e.{source} = s.source AND e.{target} <= $2 AND e.live
    ORDER BY e.{target} DESC LIMIT 1
  ) n
  ORDER BY n.target DESC, s.source LIMIT $3
)
SELECT n.source, i.target, i.version, i.at_ms FROM newest n
CROSS JOIN LATERAL (
  SELECT e.{target} AS target, e.version, e.at_ms FROM {name} e
  WHERE e.{source} = n.source AND e.{target} <= n.target AND e.live
  ORDER BY e.{target} DESC LIMIT $3
) i
ORDER BY i.target DESC, n.source LIMIT $3"""


def _scan(table: EdgeTable) -> str:
    source, target = quoted(table.source), quoted(table.target)
    return f"""SELECT {source}, {target}, version, at_ms FROM {quoted(table.name)}
WHERE live ORDER BY {source}, {target}"""
