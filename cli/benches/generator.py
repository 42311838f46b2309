"""Many people who call whatever happens: an open-loop load in a process of its own.

    python -m cli.benches.generator

The first line on standard input is a `World`, each further one a `Turn`; each turn is answered
by a line, `Done`. Calls begin at random times of the given mean rate (a Poisson process) and
latency counts from the intended start, so an answer that is waited for hides nothing. Nobody
tries again, and each session sends the last position that it was given. Where it may, it asks to
run before others: it stands for many machines, and being late itself it would measure nothing.

Each like is of a pair (session, item) that had none; an unlike is of a pair whose like was
acknowledged, and nothing happens to that pair afterwards. So what was acknowledged says which
likes must be there at the end.
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import uvloop

from cli.benches.wire import Connection, header_block, literal
from cli.benches.wire import field_of as field_in
from social.v1 import comments_pb2, feed_pb2, follows_pb2, likes_pb2, media_pb2

CONNECTIONS = 128
DEADLINE_S = 5
PAGE_ITEMS = 30
_TICK_S = 0.001
_PRIORITY = 2
_POSITION = b"millrace-position"
_OK, _REFUSED = 0, 8
# Shares of the calls, in percent.
MIX = {
    "GetFeed": 20,
    "GetMedia": 10,
    "ListComments": 5,
    "AddComment": 2,
    "Follow": 1,
    "Unfollow": 1,
    "UnlikeMedia": 5,
    "LikeMedia": 56,
}
_SERVICES = {
    "GetFeed": "FeedService",
    "GetMedia": "MediaService",
    "ListComments": "CommentsService",
    "AddComment": "CommentsService",
    "Follow": "FollowsService",
    "Unfollow": "FollowsService",
    "UnlikeMedia": "LikesService",
    "LikeMedia": "LikesService",
}


@dataclass(frozen=True, slots=True)
class World:
    """`tokens`: of the sessions; who may be followed, and what read and liked."""

    tokens: list[str]
    user_ids: list[int]
    media_ids: list[int]


@dataclass(frozen=True, slots=True)
class Turn:
    """`phases`: (calls a second, seconds), one after the other. Calls of the first `warm_s` are
    made and not counted. `good_ms`: the latency up to which an answer is good. Connections are
    spread evenly over `addresses`.
    """

    addresses: list[str]
    phases: list[tuple[float, float]]
    good_ms: float
    warm_s: float = 0.0
    bucket_s: float = 1.0


@dataclass(slots=True)
class Done:
    """`codes`: calls by status, an unsent one is -1, a lost one -2. Quantiles are those of the
    answers, of the refusals, and of the refusals before anything was counted (`onset_ms`).
    `buckets`: by intended start, how many were offered, were good, and the p99 of the answers.
    `late_ms`: p99 of how late calls were sent. Pairs are session * len(media_ids) + item, of all
    calls.
    """

    seconds: float
    good: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    answers_ms: dict[str, float] = field(default_factory=dict)
    refusals_ms: dict[str, float] = field(default_factory=dict)
    onset_ms: dict[str, float] = field(default_factory=dict)
    buckets: list[tuple[int, int, float]] = field(default_factory=list)
    late_ms: float = 0.0
    cpu_s: float = 0.0
    liked: list[int] = field(default_factory=list)
    unliked: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)

    @property
    def offered(self) -> int:
        return sum(self.codes.values())


class _People:
    """What is called next, and what came of the likes. `pair`: of the next like."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(1)  # noqa: S311  picks who does what
        self._names, self._weights = list(MIX), list(MIX.values())
        self._blocks: dict[tuple[str, int, str], bytes] = {}
        self._positions: dict[int, bytes] = {}
        self._pair = 0
        self._standing: list[int] = []
        self._make: dict[str, Callable[[int], bytes]] = {
            "GetFeed": self._feed,
            "GetMedia": self._media,
            "ListComments": self._comments,
            "AddComment": self._comment,
            "Follow": self._follow,
            "Unfollow": self._unfollow,
        }

    def next(self) -> tuple[str, int, int, bytes]:
        """(RPC, session, pair or -1, message)."""
        name = self._random.choices(self._names, self._weights)[0]
        if name == "UnlikeMedia" and not self._standing:
            name = "LikeMedia"
        if name == "LikeMedia":
            pair, self._pair = self._pair, self._pair + 1
            session, item = self._place(pair)
            request = likes_pb2.LikeMediaRequest(request_id=_id(), media_id=item)
            return name, session, pair, request.SerializeToString()
        if name == "UnlikeMedia":
            pair = self._standing.pop()
            session, item = self._place(pair)
            unlike = likes_pb2.UnlikeMediaRequest(request_id=_id(), media_id=item)
            return name, session, pair, unlike.SerializeToString()
        session = self._random.randrange(len(self._world.tokens))
        return name, session, -1, self._make[name](session)

    def block(self, name: str, session: int, authority: str) -> bytes:
        key = (name, session, authority)
        if (block := self._blocks.get(key)) is None:
            metadata = [
                ("grpc-timeout", f"{DEADLINE_S}S"),
                ("authorization", f"Bearer {self._world.tokens[session]}"),
            ]
            path = f"/social.v1.{_SERVICES[name]}/{name}"
            block = self._blocks[key] = header_block(path, authority, metadata)
        return block + self._positions.get(session, b"")

    def ended(self, done: Done, name: str, session: int, pair: int, code: int, end: bytes) -> None:
        if position := field_in(_POSITION, end):
            self._positions[session] = literal(_POSITION, position)
        if pair < 0:
            return
        if code == _OK:
            (done.liked if name == "LikeMedia" else done.unliked).append(pair)
            if name == "LikeMedia":
                self._standing.append(pair)
        elif code == _REFUSED and name == "LikeMedia":
            done.refused.append(pair)
        elif code != _REFUSED:
            done.unknown.append(pair)

    def _place(self, pair: int) -> tuple[int, int]:
        """Pairs go round the sessions, so that no two likes in a row are one person's."""
        sessions, items = self._world.tokens, self._world.media_ids
        session = pair % len(sessions)
        return session, items[(pair // len(sessions) + session * 131) % len(items)]

    def _feed(self, _session: int) -> bytes:
        return feed_pb2.GetFeedRequest(page_size=PAGE_ITEMS).SerializeToString()

    def _media(self, _session: int) -> bytes:
        ids = self._random.sample(self._world.media_ids, 5)
        return media_pb2.GetMediaRequest(media_ids=ids).SerializeToString()

    def _comments(self, _session: int) -> bytes:
        media_id = self._random.choice(self._world.media_ids)
        return comments_pb2.ListCommentsRequest(media_id=media_id).SerializeToString()

    def _comment(self, _session: int) -> bytes:
        media_id = self._random.choice(self._world.media_ids)
        request = comments_pb2.AddCommentRequest(
            request_id=_id(), media_id=media_id, text="what a light"
        )
        return request.SerializeToString()

    def _follow(self, _session: int) -> bytes:
        user_id = self._random.choice(self._world.user_ids)
        return follows_pb2.FollowRequest(request_id=_id(), user_id=user_id).SerializeToString()

    def _unfollow(self, _session: int) -> bytes:
        user_id = self._random.choice(self._world.user_ids)
        return follows_pb2.UnfollowRequest(request_id=_id(), user_id=user_id).SerializeToString()


class _Load:
    """One turn."""

    def __init__(self, people: _People, turn: Turn) -> None:
        self._people = people
        self._turn = turn
        self._connections: list[tuple[str, Connection]] = []
        self._codes: Counter[int] = Counter()
        self._answers: list[tuple[float, float]] = []
        self._refusals_s: list[float] = []
        self._onset_s: list[float] = []
        self._intended: list[float] = []
        self._late_s: list[float] = []
        self._done = Done(0.0)
        self._running = 0
        self._none = asyncio.Event()

    async def run(self) -> Done:
        await self._connect()
        cpu_s, start_s = time.process_time(), time.perf_counter()
        for number, at_s in enumerate(_starts(self._turn.phases)):
            while (left_s := start_s + at_s - time.perf_counter()) > 0:
                self._flush()
                await asyncio.sleep(max(left_s, _TICK_S))
            self._late_s.append(-left_s)
            self._send(number, start_s, at_s)
            if not number % 16:
                self._flush()
                await asyncio.sleep(0)
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * DEADLINE_S):
                await self._none_left()
        for _, connection in self._connections:
            connection.close()
        await self._none_left()
        self._done.cpu_s = time.process_time() - cpu_s
        return self._summed()

    async def _none_left(self) -> None:
        self._none.clear()
        if self._running:
            await self._none.wait()

    @property
    def _planned_s(self) -> float:
        return sum(seconds for _, seconds in self._turn.phases)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        for number in range(CONNECTIONS):
            address = self._turn.addresses[number % len(self._turn.addresses)]
            host, port = address.rsplit(":", 1)
            _, connection = await loop.create_connection(Connection, host, int(port))
            self._connections.append((address, connection))
        await asyncio.gather(*(connection.ready.wait() for _, connection in self._connections))

    def _flush(self) -> None:
        for _, connection in self._connections:
            connection.flush()

    def _send(self, number: int, start_s: float, at_s: float) -> None:
        name, session, pair, message = self._people.next()
        address, connection = self._connections[number % CONNECTIONS]

        def ended(code: int, end: bytes) -> None:
            took_s = time.perf_counter() - start_s - at_s
            self._running -= 1
            if not self._running:
                self._none.set()
            counts = at_s >= self._turn.warm_s
            if code == _REFUSED:
                (self._refusals_s if counts else self._onset_s).append(took_s)
            elif code == _OK and counts:
                self._answers.append((at_s, took_s))
            if counts:
                self._codes[code] += 1
            self._people.ended(self._done, name, session, pair, code, end)

        self._running += 1
        if at_s >= self._turn.warm_s:
            self._intended.append(at_s)
        connection.call(self._people.block(name, session, address), message, ended)

    def _summed(self) -> Done:
        done, turn = self._done, self._turn
        done.seconds = self._planned_s - turn.warm_s
        done.codes = {str(code): count for code, count in sorted(self._codes.items())}
        done.answers_ms = _quantiles_ms([took_s for _, took_s in self._answers])
        done.refusals_ms = _quantiles_ms(self._refusals_s)
        done.onset_ms = _quantiles_ms(self._onset_s)
        done.late_ms = _quantiles_ms(self._late_s).get("p99", 0.0)
        good_s, count = turn.good_ms / 1000, int(np.ceil(done.seconds / turn.bucket_s))
        offered = Counter(int((at_s - turn.warm_s) / turn.bucket_s) for at_s in self._intended)
        took: list[list[float]] = [[] for _ in range(count)]
        for at_s, took_s in self._answers:
            took[int((at_s - turn.warm_s) / turn.bucket_s)].append(took_s)
        for number, those in enumerate(took):
            good = sum(one <= good_s for one in those)
            p99 = _quantiles_ms(those).get("p99", 0.0)
            done.buckets.append((offered[number], good, p99))
        done.good = sum(good for _, good, _ in done.buckets)
        return done


def _starts(phases: list[tuple[float, float]]) -> list[float]:
    chance, starts, begin_s = random.Random(2), [], 0.0  # noqa: S311  when somebody calls
    for rate, seconds in phases:
        at_s = begin_s + chance.expovariate(rate)
        while at_s < begin_s + seconds:
            starts.append(at_s)
            at_s += chance.expovariate(rate)
        begin_s += seconds
    return starts


def _quantiles_ms(took_s: list[float]) -> dict[str, float]:
    if not took_s:
        return {}
    p50, p99 = np.quantile(took_s, (0.5, 0.99))
    return {"p50": float(p50) * 1000, "p99": float(p99) * 1000}


def _id() -> str:
    return str(uuid.uuid4())


def _hurry() -> None:
    """Before everything that shares the cores. Measured without: it waits up to 90 ms for one."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))


async def _answer() -> None:
    _hurry()
    # It lives for minutes, and a look at all its objects makes it late.
    gc.disable()
    loop = asyncio.get_running_loop()
    people: _People | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if people is None:
            people = _People(World(**json.loads(line)))
            continue
        done = await _Load(people, Turn(**json.loads(line))).run()
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    uvloop.run(_answer())
