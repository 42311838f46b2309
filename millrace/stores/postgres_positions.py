"""The position rows of views (design §5), within a transaction that the caller has begun.

Moving them is part of applying a batch: `postgres_apply`.
"""

from collections.abc import Mapping

from millrace.errors import FailedPrecondition
from millrace.stores.port import PositionRow, StoredPosition
from millrace.stores.postgres_pool import Connection
from millrace.stores.schema import SHARDS, ViewSchema

# $1 view, $2 shard_to, $3 log_id, $4 topics, $5 partitions.
_OPEN = """
INSERT INTO positions (view, shard_from, shard_to, topic, partition, epoch, log_id, position)
SELECT $1, 0, $2, m.topic, m.partition,
  (SELECT coalesce(max(epoch), 1) FROM positions WHERE view = $1), $3, 0
FROM unnest($4::text[], $5::int[]) AS m (topic, partition)
ON CONFLICT (view, shard_from, topic, partition) DO NOTHING"""
_OTHER_LOG = "SELECT count(*) FROM positions WHERE view = $1 AND log_id <> $2"
_OF_VIEW = """
SELECT topic, partition, epoch, log_id, position FROM positions
WHERE view = $1 AND shard_from = 0"""
_LOCK_VIEW = f"{_OF_VIEW} ORDER BY topic, partition FOR UPDATE"
_PUT = """
UPDATE {}.positions p SET position = m.position
FROM unnest($2::text[], $3::int[], $4::bigint[]) AS m (topic, partition, position)
WHERE p.view = $1 AND p.topic = m.topic AND p.partition = m.partition"""
_ALL = """
SELECT view, shard_from, shard_to, topic, partition, epoch, log_id, position FROM positions
ORDER BY view, shard_from, topic, partition"""
_LOCK = """
SELECT epoch FROM positions WHERE view = $1
ORDER BY shard_from, topic, partition FOR UPDATE"""
_RAISE = "UPDATE positions SET epoch = $2 WHERE view = $1"


async def open_view(
    connection: Connection, schema: ViewSchema, partitions: Mapping[str, int], log_id: int
) -> None:
    """Raises FailedPrecondition when the view belongs to another log."""
    rows = sorted(
        (topic, partition) for topic in schema.topics for partition in range(partitions[topic])
    )
    topics, numbers = [topic for topic, _ in rows], [partition for _, partition in rows]
    await connection.execute(_OPEN, schema.view, SHARDS, log_id, topics, numbers)
    if await connection.fetchval(_OTHER_LOG, schema.view, log_id):
        raise FailedPrecondition(f"view {schema.view} belongs to another log")


async def positions(connection: Connection, view: str) -> dict[tuple[str, int], StoredPosition]:
    records = await connection.fetch(_OF_VIEW, view)
    return {(topic, partition): StoredPosition(*rest) for topic, partition, *rest in records}


async def positions_in(
    connection: Connection, schema: str, view: str
) -> dict[tuple[str, int], StoredPosition]:
    """The same of the tables in another schema (a replay's)."""
    records = await connection.fetch(_OF_VIEW.replace("positions", f"{schema}.positions"), view)
    return {(topic, partition): StoredPosition(*rest) for topic, partition, *rest in records}


async def lock(connection: Connection, view: str) -> dict[tuple[str, int], StoredPosition]:
    """As `positions`; who applies to the view waits from then on, until the transaction ends.
    In the order in which batches lock them.
    """
    records = await connection.fetch(_LOCK_VIEW, view)
    return {(topic, partition): StoredPosition(*rest) for topic, partition, *rest in records}


async def put(
    connection: Connection, schema: str, view: str, positions: Mapping[tuple[str, int], int]
) -> None:
    """Sets them, whatever they were. For a switch of tables only."""
    places = [(topic, partition, at) for (topic, partition), at in sorted(positions.items())]
    await connection.execute(_PUT.format(schema), view, *zip(*places, strict=True))


async def all_positions(connection: Connection) -> list[PositionRow]:
    return [PositionRow(*record) for record in await connection.fetch(_ALL)]


async def raise_epoch(connection: Connection, view: str, at_least: int) -> int:
    """Raises FailedPrecondition for a view that was never opened."""
    epochs = [record["epoch"] for record in await connection.fetch(_LOCK, view)]
    if not epochs:
        raise FailedPrecondition(f"view {view} was never opened")
    epoch: int = max(max(epochs) + 1, at_least)
    await connection.execute(_RAISE, view, epoch)
    return epoch
