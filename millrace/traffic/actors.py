"""The people of a plan as they act: their user ids, their sessions, one write at a time each.

A person of the graph was loaded into the log and logs in; a newcomer registers. A person's writes
on edges and his profile go one after another, so that those on one edge keep their order; uploads
and reads do not wait.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from millrace.client import Client, Session
from millrace.traffic import people


@dataclass(slots=True)
class Actor:
    """A person with a session. `writing` is held while he writes what a later write replaces."""

    session: Session
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def user_id(self) -> int:
        return self.session.user_id


class Cast:
    """Everybody of a plan. `run` sets newcomers' handles apart from those of earlier runs;
    `graph_run` is what those of the graph were loaded with.
    """

    def __init__(
        self, client: Client, graph_user_ids: Sequence[int], *, run: str, graph_run: str = ""
    ) -> None:
        self._client = client
        self._graph = graph_user_ids
        self._run = run
        self._graph_run = graph_run
        self._actors: dict[int, Actor] = {}
        self._met: dict[int, int] = {}

    def actor(self, person: int) -> Actor | None:
        """None while the person has no session."""
        return self._actors.get(person)

    def user_id(self, person: int) -> int | None:
        """None for a newcomer who is not registered yet."""
        if person < len(self._graph):
            return self._graph[person]
        actor = self._actors.get(person)
        return actor.user_id if actor else self._met.get(person)

    def meet(self, person: int, user_id: int) -> None:
        """A newcomer whom another process has registered."""
        self._met[person] = user_id

    def bring(self, person: int, session: Session) -> None:
        """Online with a session that was opened elsewhere."""
        self._actors[person] = Actor(session)

    def handle(self, person: int) -> str:
        return people.handle(person, self._graph_run if person < len(self._graph) else self._run)

    def handle_of(self, actor: Actor) -> str:
        """Raises StopIteration for somebody who is not of this cast."""
        return next(self.handle(person) for person, one in self._actors.items() if one is actor)

    def online(self) -> list[Actor]:
        """Everybody with a session, in the order of their coming."""
        return list(self._actors.values())

    async def log_in(self, person: int) -> None:
        session = await self._client.log_in(self.handle(person), people.PASSWORD)
        self._actors[person] = Actor(session)

    async def register(self, person: int) -> Actor:
        session = await self._client.register(
            self.handle(person), people.PASSWORD, people.display_name(person)
        )
        self._actors[person] = Actor(session)
        return self._actors[person]
