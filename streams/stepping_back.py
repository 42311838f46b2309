"""Where delivery must begin again after a node of the feed store was lost. Pure.

A node that is killed forgets what it acknowledged last: a tenth of a second by kill -9, the sync
period (10 s) at a power cut. It comes back with a new gossip generation. Each minute of a
position's history has the lowest number of that minute and the nodes that were seen alive in it,
so the writer goes back to before the last minute in which the node was seen, and one more.

A minute is long against what can be forgotten plus the time until a new generation is noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.stores.feed_port import MinutePosition, NodeSeen

MINUTE_MS = 60_000


def start_position(
    stored: int, history: Sequence[MinutePosition], nodes: Mapping[str, NodeSeen]
) -> int:
    """The number after which delivery goes on: `stored`, or less when a node came back.

    `history`: newest minute first. `nodes`: as gossip knows them now.
    """
    start = stored
    for node, seen in nodes.items():
        last = next((past for past in history if node in past.generations), None)
        # A lower generation is only the stale word of a neighbour.
        if last is None or seen.generation <= last.generations[node]:
            continue
        start = min(start, _before(last.minute, history))
    return start


def _before(minute: int, history: Sequence[MinutePosition]) -> int:
    """The lowest number from the minute before `minute` on.

    The lowest, not the first: an earlier step back lies in the newer minutes, and what it had
    delivered again may be forgotten as well.
    """
    lowest = history[0].number
    for past in history:
        lowest = min(lowest, past.number)
        if past.minute < minute:
            break
    return lowest


@dataclass(slots=True)
class NodeWatch:
    """What this process has seen of the nodes since it started.

    `silent_s`: a node whose heartbeat stands still for longer is dead, whatever gossip says.
    """

    silent_s: float
    _first: dict[str, int] = field(default_factory=dict)
    _last: dict[str, NodeSeen] = field(default_factory=dict)
    _beaten_s: dict[str, float] = field(default_factory=dict)

    def look(self, nodes: Mapping[str, NodeSeen], now_s: float) -> bool:
        """False when a node has come back since the first look: whoever writes must step back."""
        same = True
        for node, seen in nodes.items():
            first = self._first.setdefault(node, seen.generation)
            same = same and seen.generation <= first
            last = self._last.get(node)
            if last is not None and seen.heartbeat > last.heartbeat:
                self._beaten_s[node] = now_s
            self._last[node] = seen
        return same

    def alive(self, now_s: float) -> dict[str, int]:
        """Generations of the nodes whose heart was seen to beat lately."""
        return {
            node: self._first[node]
            for node, beaten_s in self._beaten_s.items()
            if now_s - beaten_s <= self.silent_s
        }

    def to_record_first(self, history: Sequence[MinutePosition]) -> dict[str, int]:
        """The nodes of the first look that the history does not know with this generation.

        They are recorded before anything is delivered, dead or alive, since whatever they may
        forget of the coming deliveries can only be told from a generation that was recorded.
        """
        return {
            node: generation
            for node, generation in self._first.items()
            if not any(past.generations.get(node) == generation for past in history)
        }
