"""The bare part of the likes bench: hand-written statements on one connection, no log, no fold.

One transaction a batch: the position, the rows, the inverse, the counts. Tables as Millrace's.
"""

from collections.abc import Sequence

import asyncpg

from cli.benches.likes_log import Like

_MOVE = "UPDATE positions SET position = $1 WHERE view = 'likes' AND topic = 'likes'"
_LIKE = """
WITH fresh AS (
  INSERT INTO likes (media_id, user_id, number, version, at_ms, live)
  SELECT *, true FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $3::bigint[], $4::bigint[])
  ON CONFLICT DO NOTHING RETURNING media_id, user_id, number, at_ms
), by_user AS (
  INSERT INTO likes_by_user (user_id, media_id, number, version, at_ms, live)
  SELECT user_id, media_id, number, number, at_ms, true FROM fresh ORDER BY user_id, media_id
), counted AS (
  INSERT INTO likes_count AS c (id, value)
  SELECT media_id, count(*) FROM fresh GROUP BY media_id ORDER BY media_id
  ON CONFLICT (id) DO UPDATE SET value = c.value + excluded.value
)
SELECT count(*) FROM fresh"""

Columns = tuple[list[int], list[int], list[int], list[int]]


def batches_of(likes: Sequence[Like], size: int, first_number: int, at_ms: int) -> list[Columns]:
    """Columns for `_LIKE`, each batch in the order of its key."""
    batches = []
    for start in range(0, len(likes), size):
        pairs = sorted((like.media_id, like.user_id) for like in likes[start : start + size])
        numbers = list(range(first_number + start, first_number + start + len(pairs)))
        media_ids, user_ids = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        batches.append((media_ids, user_ids, numbers, [at_ms] * len(pairs)))
    return batches


async def apply(connection: asyncpg.Connection, batches: Sequence[Columns]) -> int:
    """How many likes were new."""
    fresh = 0
    for batch in batches:
        async with connection.transaction():
            await connection.execute(_MOVE, batch[2][-1])
            fresh += await connection.fetchval(_LIKE, *batch)
    return fresh
