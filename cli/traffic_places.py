"""Where traffic goes, and what can be known there.

An installation whose stores can be reached gets its people by bulk into the log, and is judged by
the log. Of one that has only addresses people register by RPC, and the RPCs alone are asked.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from cli.stored_checks import stored_checks
from cli.stores import OpenStores
from cli.traffic_workers import Workers
from millrace.auth.keys import load_keys
from millrace.client import Client, Session
from millrace.clock import Clock, SystemClock
from millrace.log.topics import DEAD_SUFFIX, TOPICS
from millrace.settings import Settings
from millrace.traffic.check import Check
from millrace.traffic.graph_load import load_graph
from millrace.traffic.history import read_history
from millrace.traffic.log_checks import log_checks
from millrace.traffic.record import Acknowledged
from millrace.traffic.served_checks import Served
from millrace.traffic.told import oracle_told
from millrace.views import lag

CATCH_UP_S = 600.0
# So long an answer may be behind what was acknowledged, where nobody says when it is not.
PATIENCE_S = 60.0

Told = Callable[[str], None]


class Place(Protocol):
    """`registers`: the workers register the people. `addresses`: of gRPC, each `host:port`."""

    @property
    def registers(self) -> bool: ...
    @property
    def addresses(self) -> Sequence[str]: ...

    async def people(
        self, workers: Workers, following: Sequence[Sequence[int]], run: str, told: Told
    ) -> list[int]:
        """The user ids of the graph's people, who are there when it returns."""

    def checks(
        self, client: Client, sessions: Sequence[Session], acknowledged: Acknowledged, told: Told
    ) -> AsyncIterator[Check]:
        """Whether all is there, when nobody writes any more."""


class WithStores:
    """An installation whose log and stores are open."""

    registers = False

    def __init__(self, settings: Settings, stores: OpenStores) -> None:
        self.addresses = (settings.grpc_address,)
        self._settings = settings
        self._stores = stores
        self._clock: Clock = SystemClock()
        self._dead: dict[str, int] = {}

    async def people(
        self, workers: Workers, following: Sequence[Sequence[int]], run: str, told: Told
    ) -> list[int]:
        log, keys = self._stores.log, load_keys(self._settings.keys_dir)
        self._dead = {
            topic: sum(await log.ends(topic)) for topic in TOPICS if topic.endswith(DEAD_SUFFIX)
        }
        user_ids = await load_graph(
            log, keys, self._clock, self._settings, following, told, run=run
        )
        told("the views catch up")
        await self.caught_up()
        return user_ids

    async def caught_up(self) -> None:
        await lag.wait_until_none(self._stores, self._clock, timeout_s=CATCH_UP_S)

    async def checks(
        self, client: Client, sessions: Sequence[Session], acknowledged: Acknowledged, told: Told
    ) -> AsyncIterator[Check]:
        told("the processors catch up")
        await self.caught_up()
        told("the log is read into the oracle")
        history = await read_history(self._stores.log, load_keys(self._settings.keys_dir).master)
        for check in log_checks(acknowledged, history, self._dead):
            yield check
        oracle = history.oracle
        users, media = _touched(acknowledged)
        users &= set(oracle.users)
        media &= set(oracle.media)
        served = Served(client, sessions, oracle, users=users, media=media)
        async for check in served.all():
            yield check
        async for check in stored_checks(self._stores, history):
            yield check


class ByCalls:
    """Any installation, by its addresses. The checks wait for answers for `patience_s`."""

    registers = True

    def __init__(self, addresses: Sequence[str], *, patience_s: float = PATIENCE_S) -> None:
        self.addresses = addresses
        self._patience_s = patience_s

    async def people(
        self, workers: Workers, following: Sequence[Sequence[int]], run: str, told: Told
    ) -> list[int]:
        return await workers.registered(
            lambda done, total: told(f"{done:,} of {total:,} registered")
        )

    async def checks(
        self, client: Client, sessions: Sequence[Session], acknowledged: Acknowledged, told: Told
    ) -> AsyncIterator[Check]:
        oracle = oracle_told(acknowledged)
        served = Served(
            client, sessions, oracle, doubt=acknowledged.doubt, patience_s=self._patience_s
        )
        async for check in served.all():
            yield check


def _touched(acknowledged: Acknowledged) -> tuple[set[int], set[int]]:
    """(users, media) that acknowledged writes have to do with."""
    users = set(acknowledged.registered) | {user for user, _ in acknowledged.profiles}
    media = {remark.media_id for remark in acknowledged.remarks}
    for upload in acknowledged.uploads:
        users.add(upload.user_id)
        media.add(upload.media_id)
    for kind, user_id, target_id in acknowledged.standing:
        users.add(user_id)
        (users if kind == "follows" else media).add(target_id)
    return users, media
