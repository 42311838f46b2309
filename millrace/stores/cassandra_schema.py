"""The tables in Cassandra, and the idempotent step that creates them.

Not: changes of tables that hold data; those come as numbered steps with the issue that needs one.
"""

# All statics of the feed protocol from the first day: adding one later would mean that rows and
# statics of one feed were written under two schemas.
_FEED = """
CREATE TABLE IF NOT EXISTS {keyspace}.feed_by_user (
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

# One row: the log whose numbers the other tables hold.
_LOG = "CREATE TABLE IF NOT EXISTS {keyspace}.log (one int PRIMARY KEY, log_id bigint)"


def statements(keyspace: str, dc: str, replication: int) -> tuple[str, ...]:
    """In order. Each may run any number of times."""
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', '{dc}': {replication}}}",
        _FEED.format(keyspace=keyspace),
        _POSITIONS.format(keyspace=keyspace),
        _LOG.format(keyspace=keyspace),
    )
