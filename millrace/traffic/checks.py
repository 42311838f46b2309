"""Is everything there that was acknowledged, once, and does every view say what the log says?

Three opinions meet: what the client was told (Record), what the log holds (History, with the
oracle fed from it), and what the RPCs answer. Run them when the processors have caught up and
nobody writes.
"""

from collections.abc import AsyncIterator, Sequence

from millrace.client import Client, Session
from millrace.stores.port import ViewStore
from millrace.stores.schema import EdgeTable
from millrace.traffic.check import Check, short
from millrace.traffic.history import History
from millrace.traffic.log_checks import log_checks
from millrace.traffic.record import Record
from millrace.traffic.served_checks import Served, feed_of

__all__ = ["Check", "Checks", "feed_of", "stored_edges"]


class Checks:
    """All of an installation that has seen nothing else. `sessions`: whose feeds are read."""

    def __init__(
        self,
        client: Client,
        sessions: Sequence[Session],
        record: Record,
        history: History,
    ) -> None:
        self._served = Served(client, sessions, history.oracle)
        self._record = record
        self._history = history

    async def all(self) -> AsyncIterator[Check]:
        """By what the client was told, then by what the log holds."""
        for check in log_checks(self._record.acknowledged, self._history):
            yield check
        async for check in self._served.all():
            yield check


async def stored_edges(
    store: ViewStore, table: EdgeTable, claim: str, sets: dict[int, set[int]]
) -> Check:
    """The table's live edges, all of them, against sets by source."""
    check = Check(claim)
    found: dict[int, set[int]] = {}
    async for edge in store.scan_edges(table):
        found.setdefault(edge.source, set()).add(edge.target)
        check.examined += 1
    for source in {source for source, targets in sets.items() if targets} | set(found):
        expected, held = sets.get(source, set()), found.get(source, set())
        if expected != held:
            check.fail(
                f"{table.name} of {source}: missing {short(expected - held)},"
                f" too many {short(held - expected)}"
            )
    return check
