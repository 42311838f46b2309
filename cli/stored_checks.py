"""Do the tables themselves hold what the log says: edges in PostgreSQL, feed rows in Cassandra?"""

from collections.abc import AsyncIterator

from cli.stores import OpenStores
from millrace.traffic.check import Check
from millrace.traffic.checks import stored_edges
from millrace.traffic.history import History
from millrace.views.follows import FOLLOWS
from millrace.views.likes import LIKES
from streams.owed_rows import check_owed_rows


async def stored_checks(stores: OpenStores, history: History) -> AsyncIterator[Check]:
    oracle = history.oracle
    yield await stored_edges(
        stores.views, FOLLOWS.table, "PostgreSQL has exactly the log's follows", oracle.following
    )
    yield await stored_edges(
        stores.views, LIKES.table, "PostgreSQL has exactly the log's likes", oracle.likers
    )
    found = await check_owed_rows(stores.log, stores.views, stores.feeds, missing_max=5)
    owed = Check("Cassandra has every row that the fan-out owes", found.checked)
    for row in found.missing:
        owed.fail(f"media {row.media_id} for user {row.user_id}")
    for media_id in found.unplanned:
        owed.fail(f"media {media_id} was never planned")
    owed.wrong_count = found.missing_count + found.unplanned_count
    yield owed
