"""Row `feed` of the bench `replay`: chunks from the log to rows in a new table beside the served
one, against the bare driver that writes the same rows.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from cli.benches.backlog import Backlog
from cli.benches.bare_rows import BareRows, bare_rows
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row
from cli.benches.stand import Stand, Told, Watch
from cli.stores import OpenStores, open_stores
from millrace.clock import SystemClock
from millrace.errors import Bug
from millrace.log.partitioner import key_of
from millrace.log.port import NewRecord
from millrace.settings import Settings
from millrace.traffic.graph import read_edges
from social.log.v1.feed_pb2 import FeedChunk
from streams.chunks import ChunkPacker, Post
from streams.planner import SMALL
from streams.replay_feed import FeedParts, drop_beside, replay_feed

_GRAPH = GRAPHS / "github.follows.gz"
_NOMINAL_PER_S = 20_000
# Nobody else writes here, and what is waited for is no part of the rate.
_NO_WAITING = {"feed_tables_lease_s": 2.0, "replay_settle_s": 0.0}


async def measure_feed(effort: Effort, told: Told) -> list[Row]:
    """With servers of its own."""
    async with (
        Stand("replay-feed", effort, told) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        settings = stand.settings.model_copy(update=_NO_WAITING)
        stores = await opened.enter_async_context(open_stores(settings))
        graph = read_edges(effort.graph or _GRAPH)
        rows = int(effort.seconds * _NOMINAL_PER_S)
        backlog = Backlog(graph, 1, rows, stores.log.partitions)
        told(f"{len(backlog.rows(0)):,} rows into the log, as chunks")
        await stores.log.append_many(SMALL, _chunks(backlog, settings, stores.log.partitions))
        bare = opened.enter_context(bare_rows(settings))
        sides = _Sides(stores, settings, bare, backlog)
        found = await stand.rounds(effort.rounds, {"replay": sides.replay, "bare part": sides.bare})
    note = (
        f"{len(backlog.rows(0)):,} rows a round, from chunks in the log to a table beside the"
        " served one, positions kept; bare part: cassandra-driver, the same rows packed once"
    )
    return [rate_row("feed", "rows/s", found["replay"], found["bare part"], note)]


def _chunks(backlog: Backlog, settings: Settings, partitions: int) -> Iterator[NewRecord]:
    """As the planner packs them."""
    packers = [ChunkPacker(one, settings.chunk_rows_max) for one in range(partitions)]
    followers: dict[int, list[int]] = {}
    authors: dict[int, int] = {}
    for user_id, media_id, author_id in backlog.rows(0):
        followers.setdefault(media_id, []).append(user_id)
        authors[media_id] = author_id
    for number, (media_id, ids) in enumerate(followers.items()):
        packer = packers[number % partitions]
        post = Post(media_id, authors[media_id], number + 1)
        for chunk in packer.add(post, ids):
            yield _record(chunk.message)
    for packer in packers:
        for chunk in packer.rest():
            yield _record(chunk.message)


def _record(message: FeedChunk) -> NewRecord:
    key = key_of(message.author_ids[0])
    return NewRecord(key, message.SerializeToString(), message.partition)


class _Sides:
    def __init__(
        self, stores: OpenStores, settings: Settings, bare: BareRows, backlog: Backlog
    ) -> None:
        self._bare = bare
        self._rows = backlog.rows(0)
        self._parts = FeedParts(
            settings, SystemClock(), stores.log, stores.views, stores.feeds, lambda *_: None
        )

    async def replay(self, _number: int) -> Round:
        """Into a new table each round; it is dropped afterwards."""
        done = await replay_feed(
            self._parts, compare=False, switch=False, accept=False, rows_per_s=0
        )
        if done.rows != len(self._rows):
            raise Bug(f"replayed {done.rows} of {len(self._rows)} rows")
        await drop_beside(self._parts)
        return Round(done.rows, done.seconds)

    async def bare(self, _number: int) -> Round:
        watch = Watch()
        await asyncio.to_thread(self._bare.write, self._rows)
        return Round(len(self._rows), watch.seconds)
