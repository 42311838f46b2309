"""The whole core on the twins, moved by actions alone.

    world = World()
    with world.running():
        world.do(("follow", 1, 2))
        world.do(("run", "projector 1", "follows", 10))
        settle(world)

An action is a tuple of its name and plain values, so that a history can be stored, cut and played
again. One that makes no sense in this place (an item that is not there, a process that is dead)
does nothing: so every part of a history is a history.
"""

import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

from millrace import ids
from millrace.auth import sealing
from millrace.auth.keys import Keys
from millrace.log.control import LogIdentity
from millrace.log.memory import MemoryLog
from millrace.log.port import ORDER_HEADER, Appended, TopicPartition
from millrace.settings import Settings
from millrace.views import VIEWS, follows
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.progress_pb2 import ViewProgress
from streams import registrations
from tests.simulation.clients import Clients
from tests.simulation.group import groups_of
from tests.simulation.loop import Lane, SimulatedLoop
from tests.simulation.process import Fanout, Process, Projector, SkewedClock, done
from tests.simulation.stores import FORGOTTEN_S_MAX, RefusedEdge, SimulatedFeeds, SimulatedViews

Action = tuple[Any, ...]
Asked = Callable[[], Awaitable[Any]]

PARTITIONS = 3
SETTINGS = Settings(
    project_batch_events=7,
    project_wait_s=1.0,
    project_dead_ratio_max=1.0,
    progress_interval_s=0.5,
    registration_batch_claims=3,
    data_keys_cached_max=4,
    plan_posts_max=3,
    chunk_rows_max=3,
    follower_page_rows=2,
    large_author_followers=2,
)
GROUPS = {
    **{f"view.{view.name}": view.topics for view in VIEWS},
    registrations.SCHEMA.view: registrations.SCHEMA.topics,
    "planner": ("media",),
    "fanout": ("chunks.small", "chunks.large"),
}
EDGE_TABLES = {"follow": "follows", "like": "likes"}
LATE_S = 8.0
RECORDS_MAX = 1_000_000


class Seeded:
    """What the product draws from `secrets`, drawn from a seed; small, so that ids clash."""

    def __init__(self) -> None:
        self._random = Random(7)

    def randbelow(self, below: int) -> int:
        return self._random.randrange(min(below, 2))

    def token_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(secrets, name)


class World:
    def __init__(self) -> None:
        self.loop = SimulatedLoop()
        self.settings = SETTINGS
        self.keys = Keys(master=b"m" * 32, signing=())
        self.identity = LogIdentity(b"seed", 77, 1_000)
        self.here = Lane("a client")
        self.clocks = [SkewedClock(self.loop) for _ in range(3)]
        self.log = MemoryLog(PARTITIONS, self.clocks[2])
        self.refused: set[RefusedEdge] = set()
        self.views = SimulatedViews(self.wrong, self.refused)
        self.feeds = SimulatedFeeds(self.loop.time)
        self.copies: dict[str, SimulatedViews] = {}
        self.groups = groups_of(self.log, GROUPS)
        self.clients = Clients(self)
        self.processes: dict[str, Process] = {
            process.name: process
            for process in (
                *(Projector(f"projector {number}", self) for number in (1, 2)),
                *(Fanout(f"fanout {number}", self) for number in (1, 2)),
            )
        }
        self.away: set[str] = set()
        self.wrongs: list[str] = []
        self.poison: set[tuple[str, int, int]] = set()
        # Letters of edges that may be tried again, oldest first.
        self.letters: list[Appended] = []
        # (post, follower, version) by what the view said when the post was written.
        self.owed: set[tuple[int, int, int, int]] = set()
        # The epoch that a view must have reached by the end, since it was put back.
        self.epochs: dict[str, int] = {}
        self.restores = 0
        self._ended: list[tuple[Process, str]] = []
        # Calls that are done once their time has come, whoever still waits for them.
        self._on_their_way: list[tuple[float, Process, int, Asked]] = []
        # Actions that did something, and what became of them.
        self.counts: Counter[str] = Counter()
        self.met: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator["World"]:
        seeded = Seeded()
        with ExitStack() as stack:
            stack.enter_context(patch.object(ids, "secrets", seeded))
            stack.enter_context(patch.object(sealing, "secrets", seeded))
            stack.enter_context(self.loop.running())
            self.now(self._open())
            for process in self.processes.values():
                process.start()
            yield self
            for process in self.processes.values():
                process.kill("the simulation is over")

    async def _open(self) -> None:
        for schema in (*(view.schema for view in VIEWS), registrations.SCHEMA):
            partitions = {topic: self.log.partitions_of(topic) for topic in schema.topics}
            await self.views.open_view(schema, partitions, self.identity.log_id)

    def now(self, work: Any) -> Any:
        """The result of reads of the bare stores: one moment, nobody in between."""
        return self.loop.finish(self.here, work)

    def wrong(self, what: str) -> None:
        self.wrongs.append(what)

    def ended(self, process: Process, why: str, *, wrong: bool = False) -> None:
        self._ended.append((process, why))
        if wrong:
            self.wrong(why)

    def append(
        self, topic: str, key: bytes, value: bytes | None, partition: int | None = None, **more: Any
    ) -> Appended:
        appended: Appended = self.now(
            self.log.append(topic, key, value, partition=partition, **more)
        )
        for group in self.groups.values():
            if (appended.topic, appended.partition) in group.partitions:
                for reader in group.members.values():
                    reader.wake()
        return appended

    def do(self, action: Action) -> None:
        """One step. What must never be is in `wrongs` afterwards."""
        name, *values = action
        # An action that found nothing to do says False.
        did = getattr(self, "_" + name)(*values) is not False
        self.counts[f"client {values[0]}" if name == "client" else name] += did
        self.bury()

    def late(self, process: Process, asked: Asked) -> None:
        """A call that is on its way while its caller knows no more of it."""
        self._on_their_way.append((self.loop.time() + LATE_S, process, process.life, asked))

    def arriving(self, of: Process | None = None) -> list[Asked]:
        """What has been on its way for long enough; of one that is alive, all. Who asks does it."""
        now_s, waiting, self._on_their_way = self.loop.time(), self._on_their_way, []
        arriving = []
        for due_s, process, life, asked in waiting:
            if (process is of and life == process.life) or due_s <= now_s:
                arriving.append(asked)
            else:
                self._on_their_way.append((due_s, process, life, asked))
        self.met["call done late"] += len(arriving)
        return arriving

    @property
    def quiet(self) -> bool:
        """Nothing is on its way."""
        return not self._on_their_way

    def bury(self) -> list[Process]:
        """The processes that have ended are dead from here on."""
        ended, self._ended = self._ended, []
        for process, why in ended:
            process.kill(why)
        return [process for process, _ in ended]

    # Clients.

    def _client(self, name: str, *values: Any) -> bool:
        appended = getattr(self.clients, name)(*values)
        if name == "post":
            self._owe(values[0], self.clients.media[-1][0])
        self.counts["events"] += appended is not None
        return appended is not None

    def _owe(self, author: int, media_id: int) -> None:
        edges = self.now(follows.FOLLOWS.inverse_page(self.views, author, after=None, limit=99))
        self.owed.update((media_id, author, edge.source, edge.version) for edge in edges)

    def _refuse(self, name: str, one: int, other: int) -> bool:
        """A follow or like that the store cannot take for now."""
        appended = getattr(self.clients, name)(one, other)
        if appended is None:
            return False
        media = self.clients.media
        other = other if name == "follow" else media[-1 - other % len(media)][0]
        pair = (one, other) if name == "follow" else (other, one)
        edge = (EDGE_TABLES[name], *pair, appended.number)
        self.refused.add(edge)
        self.poison.add(appended)
        self.letters.append(appended)
        return True

    def _retry(self) -> bool:
        """The oldest dead letter again, as `millrace dead retry` does."""
        if not self.letters:
            return False
        topic, partition, number = self.letters[0]
        letters = self.log.after(topic + ".dead", partition, 0, RECORDS_MAX)
        if number not in {DeadLetter.FromString(one.value or b"").number for one in letters}:
            return False
        self.letters.pop(0)
        (record,) = self.log.after(topic, partition, number - 1, 1)
        order = {ORDER_HEADER: number.to_bytes(8, "big")}
        self.append(topic, record.key, record.value, partition, headers=order)
        return True

    def _garbage(self, topic: str, owner: int) -> None:
        """An event that no version explains."""
        self.poison.add(self.append(topic, owner.to_bytes(8, "big"), b"\xff\xff"))

    def _duplicate(self, topic: str, partition: int, back: int) -> bool:
        """A record is in the log once more, as by a producer without idempotence."""
        end = self.log.end(topic, partition)
        # A claim that lost and comes again when the name is free would make a user whose secrets
        # were ended; the producer's idempotence is what stands between.
        if not end or topic == "names":
            return False
        record = self.log.duplicate(topic, partition, max(end - back, 1))
        if (topic, partition, max(end - back, 1)) in self.poison and record.value == b"\xff\xff":
            self.poison.add((topic, partition, record.number))
        return True

    # Processors.

    def _run(self, process: str, part: str, turns: int) -> bool:
        of = self.processes[process]
        lane = of.lanes.get(part)
        if lane is None or of.dead or of.paused:
            return False
        return self.loop.turns(lane, turns) > 0

    def _kill(self, process: str) -> bool:
        alive = not self.processes[process].dead
        self.processes[process].kill("killed")
        return alive

    def _start(self, process: str) -> bool:
        dead = bool(self.processes[process].dead)
        self.processes[process].start()
        return dead

    def _pause(self, process: str) -> bool:
        of = self.processes[process]
        goes_on = not of.dead and not of.paused
        of.paused = True
        return goes_on

    def _wake(self, process: str) -> bool:
        of, self.processes[process].paused = self.processes[process], False
        lost = any(process not in self.groups[group].members for group in of.readers)
        self.met["woken after it was expelled"] += lost
        return not of.dead

    def _expel(self, process: str) -> bool:
        """The groups forget a process that is paused, and give its partitions to the other."""
        paused = self.processes[process].paused
        for group in self.groups.values() if paused else ():
            group.leave(process)
            group.share(0)
        return paused

    def _share(self, group: str, pattern: int, told: bool) -> None:
        self.groups[group].share(pattern, told=told)

    def _repeat(self, process: str, group: str, records: int) -> bool:
        of = self.processes[process]
        if of.dead or group not in of.readers:
            return False
        of.readers[group].repeat(records)
        return True

    # Stores, and time.

    def _fault(self, process: str, kind: str, when: str, times: int = 1) -> bool:
        of = self.processes[process]
        if not of.dead:
            of.faults.setdefault(kind, deque()).extend([when] * times)
        return not of.dead

    def _lose(self, kind: str) -> None:
        self.away.add(kind)

    def _find(self, kind: str) -> None:
        self.away.discard(kind)

    def _copy(self, name: str) -> None:
        self.copies[name] = self.views.copied()

    def _restore(self, name: str) -> bool:
        """All views are as they were: a backup is put back, or a lagging replica promoted."""
        if name not in self.copies:
            return False
        published = self.published()
        self.views = self.copies[name].copied()
        self.restores += 1
        self.owed.clear()
        for view in VIEWS:
            if (known := published.get(view.name)) is not None:
                self.epochs[view.name] = known.epoch + fell(self.views, known)
        return True

    def published(self) -> dict[str, ViewProgress]:
        """The highest of each view."""
        highest: dict[str, ViewProgress] = {}
        for record in self.log.after("progress", 0, 0, RECORDS_MAX):
            told = ViewProgress.FromString(record.value or b"")
            known = highest.get(told.view)
            if known is None or _rank(known) <= _rank(told):
                highest[told.view] = told
        return highest

    def _forget(self, seconds: float) -> None:
        """A node of the feed store is killed and comes back."""
        self.met["feed row forgotten"] += self.feeds.forget(min(seconds, FORGOTTEN_S_MAX))

    def _pass(self, seconds: float) -> None:
        self.loop.advance(seconds)
        for asked in self.arriving():
            self.now(done(asked))

    def _jump(self, who: str, milliseconds: int) -> bool:
        """A wall clock is set, either way."""
        if who.startswith("service"):
            self.clocks[int(who[-1])].skew_ms += milliseconds
            return True
        of = self.processes[who]
        if not of.dead:
            of.clock.skew_ms += milliseconds
        return not of.dead

    def _look(self, _who: int = 0) -> None:
        """Only a place in the history where the checks look."""


def fell(views: SimulatedViews, told: ViewProgress) -> bool:
    """Whether a view is somewhere below where it had been before."""
    at: dict[TopicPartition, int] = views.at_positions(told.view)
    return any(
        at[topic.topic, partition] < number
        for topic in told.topics
        for partition, number in enumerate(topic.numbers)
    )


def _rank(told: ViewProgress) -> tuple[int, int]:
    """Of one epoch the one that covers most; positions of one epoch only rise."""
    return told.epoch, sum(number for topic in told.topics for number in topic.numbers)
