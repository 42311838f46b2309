"""One process of a traffic: its share of the people, and of every turn's calls.

    python -m millrace.traffic.worker

Reads orders from standard input and answers on standard output (`orders`). All workers make the
same plan, each plays the actions of its own people, and what one has made the others hear of.
"""

import asyncio
import contextlib
import json
import string
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from millrace import collector
from millrace.client import Client, Session, new_request_id
from millrace.errors import Bug, MillraceError
from millrace.traffic import people
from millrace.traffic.actors import Cast
from millrace.traffic.graph import following_of
from millrace.traffic.orders import (
    LINE_BYTES_MAX,
    Handed,
    Order,
    Turn,
    content_of,
    line_of,
    order_of,
    turn_of,
)
from millrace.traffic.pictures import posts
from millrace.traffic.plan import Action, online, planned, posted
from millrace.traffic.record import Acknowledged, Edge
from millrace.traffic.run import Post, Traffic, uploaded

T = TypeVar("T")
# Pictures that are made before; the uploads use them in turn.
PICTURES_MAX = 96
_SAID_MAX = 1_000
_AT_ONCE = 8
_TICK_S = 0.5
_SETTLED_OBJECTS = 20_000
# Who comes online, and what was posted before, is the same in each turn.
_ANY_TURN = Turn(0, 0.0, 1.0, 1.0, {"GetFeed": 1.0}, [])


@dataclass(frozen=True, slots=True)
class _Share:
    """One worker's part of a plan."""

    actions: Iterable[Action]
    seconds: float


class Ear:
    """What is said on standard input; read ahead a little."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue(_SAID_MAX)

    async def listen(self) -> None:
        """Until nothing more comes."""
        reader = asyncio.StreamReader(LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            kind, content = json.loads(line)
            await self._said.put((kind, content))
        await self._said.put(None)

    async def next(self) -> tuple[str, Any] | None:
        """None for ever when it is over."""
        said = await self._said.get()
        if said is None:
            self._said.put_nowait(None)
        return said


class Worker:
    """`tell`: to whoever gave the order, who is heard by `ear`."""

    def __init__(self, order: Order, tell: Callable[[str, Any], None], ear: Ear) -> None:
        self._order = order
        self._tell = tell
        self._ear = ear
        self._following = following_of(order.graph, order.users, order.seed)
        self._mine = range(order.worker, len(self._following), order.workers)
        self._sessions: dict[int, Session] = {}
        self._user_ids: list[int] = []
        self._acknowledged = Acknowledged()
        self._posts: list[Post] = []

    async def work(self) -> None:
        """Until nothing more is said."""
        order = self._order
        drawing = asyncio.to_thread(
            lambda: [
                Post(data, caption)
                for data, caption in posts(Path(order.pictures), PICTURES_MAX, order.seed)
            ]
        )
        async with contextlib.AsyncExitStack() as opened:
            preparing = await opened.enter_async_context(Client(order.address))
            playing = await opened.enter_async_context(
                Client(
                    order.address,
                    connections=order.connections,
                    tries_again=order.tries_again,
                )
            )
            if order.register:
                await self._register(preparing)
            said = await self._ear.next()
            if said is None or said[0] != "people":
                raise Bug(f"{said} where the people were to come")
            self._user_ids = said[1]
            await self._come_online(preparing)
            self._posts = await drawing
            media = await self._post(preparing)
            self._tell("ready", {"acknowledged": self._acknowledged.as_json(), "media": media})
            collector.settle(_SETTLED_OBJECTS)
            while said := await self._ear.next():
                if said[0] == "turn":
                    await self._play(playing, turn_of(said[1]))
                elif said[0] == "sessions":
                    self._tell("sessions", self._handed(said[1]))

    async def _register(self, client: Client) -> None:
        async def register(person: int) -> None:
            handle = people.handle(person, self._order.run)
            name = people.display_name(person)
            session = await client.register(handle, people.PASSWORD, name)
            self._sessions[person] = session
            self._acknowledged.registered[session.user_id] = handle

        await self._all(register, self._mine)
        registered = [(person, one.user_id) for person, one in self._sessions.items()]
        self._tell("people", registered)

    async def _come_online(self, client: Client) -> None:
        order = self._order
        acting = set(online(self._following, order.plan_order(_ANY_TURN))) & set(self._mine)

        async def follow(person: int) -> None:
            session = self._sessions[person]
            for followee in self._following[person]:
                await client.follow(session, self._user_ids[followee])
                edge = Edge("follows", session.user_id, self._user_ids[followee], live=True)
                self._acknowledged.wrote(edge)

        async def log_in(person: int) -> None:
            handle = people.handle(person, order.run)
            self._sessions[person] = await client.log_in(handle, people.PASSWORD)

        if order.register:
            await self._all(follow, self._mine)
        else:
            await self._all(log_in, sorted(acting))
        self._sessions = {person: self._sessions[person] for person in sorted(acting)}

    async def _post(self, client: Client) -> list[tuple[int, int]]:
        """(ordinal, media id) of what this worker's people upload before all turns."""
        authors = posted(self._following, self._order.plan_order(_ANY_TURN))
        made: list[tuple[int, int]] = []

        async def post(ordinal: int) -> None:
            session, what = self._sessions[authors[ordinal]], self._posts[ordinal]
            request_id = new_request_id()
            item = await client.upload(session, what.data, what.caption, request_id=request_id)
            made.append((ordinal, item.id))
            self._acknowledged.uploads.append(uploaded(session, item, request_id, what))

        mine = [one for one, author in enumerate(authors) if author in self._sessions]
        await self._all(post, mine)
        return made

    async def _all(self, do: Callable[[T], Awaitable[None]], things: Sequence[T]) -> None:
        """A few at once. Tells how far it is."""
        places, done = asyncio.Semaphore(_AT_ONCE), 0

        async def one(thing: T) -> None:
            nonlocal done
            async with places:
                await do(thing)
            done += 1
            self._tell("step", (done, len(things)))

        try:
            async with asyncio.TaskGroup() as group:
                for thing in things:
                    group.create_task(one(thing))
        except* MillraceError as errors:
            raise errors.exceptions[0] from None

    async def _play(self, client: Client, turn: Turn) -> None:
        """The turn's calls of this worker's people; tells what came of them."""
        order = self._order
        mark = f"{order.run}{string.ascii_letters[turn.number % len(string.ascii_letters)]}"
        cast = Cast(client, self._user_ids, run=mark, graph_run=order.run)
        for person, session in self._sessions.items():
            cast.bring(person, session)
        actions = planned(self._following, order.plan_order(turn))
        share = _Share(
            (one for one in actions if one.actor % order.workers == order.worker), turn.seconds
        )
        traffic = Traffic(client, cast, share, self._posts, outstanding_max=order.outstanding_max)
        traffic.learn(turn.posted)
        playing = asyncio.create_task(traffic.run(turn.start_s))
        hearing = asyncio.create_task(self._hear(traffic, cast))
        try:
            while not playing.done():
                await asyncio.wait({playing}, timeout=_TICK_S)
                self._tick(traffic)
        finally:
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hearing
        record = await playing
        self._tell("done", record.as_json())

    async def _hear(self, traffic: Traffic, cast: Cast) -> None:
        while said := await self._ear.next():
            kind, content = said
            if kind == "stop":
                traffic.stop()
            elif kind == "news":
                traffic.learn(content["media"])
                for person, user_id in content["people"]:
                    cast.meet(person, user_id)
        # Nobody is there to hear what comes of it.
        traffic.stop()

    def _tick(self, traffic: Traffic) -> None:
        tally, news = traffic.record.tally, traffic.news()
        self._tell(
            "tick",
            {
                "news": {"media": news.media, "people": news.people},
                "under_way": traffic.outstanding,
                "outcomes": tally.outcomes,
                "newest": tally.part(tally.windows - 2).as_json(),
            },
        )

    def _handed(self, count: int) -> list[dict[str, Any]]:
        """Sessions of the first so many; from now on they are another process's."""
        found = []
        for person, one in list(self._sessions.items())[:count]:
            tokens = (one.access_token, one.refresh_token, one.expires_s)
            found.append(content_of(Handed(person, one.user_id, *tokens)))
        return found


def _tell(kind: str, content: Any) -> None:
    sys.stdout.buffer.write(line_of(kind, content))
    sys.stdout.buffer.flush()


async def _main() -> int:
    ear = Ear()
    listening = asyncio.create_task(ear.listen())
    try:
        said = await ear.next()
        if said is not None:
            await Worker(order_of(said[1]), _tell, ear).work()
    except MillraceError as error:
        _tell("failed", str(error))
        return 1
    finally:
        listening.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(_main()))
