"""Which rows share a replica, so that a batch costs its coordinator no forwarding."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from millrace.stores.feed_port import FeedRow


class Ring:
    """Reads the driver's token map at each call, so nodes may come and go."""

    def __init__(self, metadata: Any, keyspace: str, dc: str) -> None:
        self._metadata = metadata
        self._keyspace = keyspace
        self._dc = dc

    def by_replica(self, rows: Sequence[FeedRow]) -> Iterable[Sequence[FeedRow]]:
        """The rows in groups; all of a group have their first replica of this data centre in
        common. One group where every node holds everything, or where the ring is unknown.
        """
        nodes = sum(host.datacenter == self._dc for host in self._metadata.all_hosts())
        if nodes <= self._replication():
            return (rows,) if rows else ()
        first_of: dict[int, Any] = {}
        groups: defaultdict[Any, list[FeedRow]] = defaultdict(list)
        for row in rows:
            user_id = row[0]
            if user_id not in first_of:
                first_of[user_id] = self._first_replica(user_id)
            groups[first_of[user_id]].append(row)
        return groups.values()

    def _replication(self) -> int:
        keyspace = self._metadata.keyspaces.get(self._keyspace)
        strategy = keyspace.replication_strategy if keyspace else None
        factors = getattr(strategy, "dc_replication_factors", {})
        return int(factors.get(self._dc, 1))

    def _first_replica(self, user_id: int) -> Any:
        key = user_id.to_bytes(8, "big", signed=True)
        for host in self._metadata.get_replicas(self._keyspace, key):
            if host.datacenter == self._dc:
                return host.endpoint
        return None
