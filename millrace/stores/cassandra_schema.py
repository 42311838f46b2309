"""The tables in Cassandra, and the idempotent step that creates them.

Not: changes of tables that hold data; those come as numbered steps with the issue that needs one.
"""

import re

from millrace.errors import Bug
from millrace.stores.feed_port import FIRST_TABLE

# All statics of the feed protocol from the first day: adding one later would mean that rows and
# statics of one feed were written under two schemas.
_FEED = """
CREATE TABLE IF NOT EXISTS {keyspace}.{table} (
    user_id bigint,
    media_id bigint,
    author_id bigint,
    phase bigint static,
    upto bigint static,
    floor bigint static,
    cold_edges map<bigint, bigint> static,
    hold bigint static,
    hold_from bigint static,
    PRIMARY KEY (user_id, media_id)
) WITH CLUSTERING ORDER BY (media_id DESC)
"""

# The static `newest` outlives the minutes: a writer that was away for a day still knows where it
# was. `number` is written with a timestamp that falls as it rises, so that the lowest of a minute
# stays, whoever writes last. Expired minutes need no tombstones that outlive an absent node: they
# expire there as well.
_POSITIONS = """
CREATE TABLE IF NOT EXISTS {keyspace}.positions (
    name text,
    topic text,
    partition int,
    minute bigint,
    number bigint,
    generations frozen<map<text, bigint>>,
    newest bigint static,
    PRIMARY KEY ((name, topic, partition), minute)
) WITH CLUSTERING ORDER BY (minute DESC) AND gc_grace_seconds = 3600
"""

# One row: which of the tables of rows is served (docs/adr/replay-feed.md).
_TABLES = """
CREATE TABLE IF NOT EXISTS {keyspace}.feed_tables (
    one int PRIMARY KEY,
    current text,
    beside text,
    phase text,
    last int,
    made bigint
)
"""

# One row: the log whose numbers the other tables hold.
_LOG = "CREATE TABLE IF NOT EXISTS {keyspace}.log (one int PRIMARY KEY, log_id bigint)"


def feed_table(keyspace: str, name: str) -> str:
    """A table of rows. Raises Bug for a name that is none."""
    if not re.fullmatch(f"{FIRST_TABLE}(_[0-9]+)?", name):
        raise Bug(f"not a name of a feed table: {name}")
    return _FEED.format(keyspace=keyspace, table=name)


def statements(keyspace: str, dc: str, replication: int) -> tuple[str, ...]:
    """In order. Each may run any number of times."""
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', '{dc}': {replication}}}",
        feed_table(keyspace, FIRST_TABLE),
        _TABLES.format(keyspace=keyspace),
        _POSITIONS.format(keyspace=keyspace),
        _LOG.format(keyspace=keyspace),
    )
