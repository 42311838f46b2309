"""What the worker processes of a traffic are told, and tell: lines of JSON, [kind, content].

To a worker    order, people (user ids of the graph), turn, news, stop, sessions (how many)
From a worker  step (done, total), people (person, user id), ready (what was acknowledged until
               then, and what was uploaded), tick, done (a record), sessions, failed (why)
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from millrace.client import Session
from millrace.traffic.arrivals import Burst
from millrace.traffic.mix import Mix, Rpc
from millrace.traffic.plan import PlanOrder

# An answer names each write that was acknowledged.
LINE_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """One worker of several: whose people are those whose number leaves `worker` when divided by
    `workers`. `graph`, `users`, `seed`: of `following_of`; `online`: how many of them act.
    `register`: they are not there yet and are registered by RPC, else they log in. `pictures`: a
    folder of photographs.
    """

    address: str
    worker: int
    workers: int
    graph: str
    users: int
    seed: int
    online: int
    run: str
    register: bool
    pictures: str
    tries_again: bool
    outstanding_max: int
    connections: int

    def plan_order(self, turn: "Turn") -> PlanOrder:
        mix = Mix("", {Rpc(rpc): weight for rpc, weight in turn.mix.items()})
        return PlanOrder(
            seed=self.seed,
            seconds=turn.seconds,
            rate=turn.rate,
            actors=self.online,
            mix=mix,
            burst=Burst(*turn.burst) if turn.burst else None,
            celebrity_every_s=turn.celebrity_every_s,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of traffic by all workers at once, from `start_s` on by the monotonic clock of the
    machine. `number` sets its newcomers apart from those of other turns; `mix`: weights by RPC;
    `posted`: (ordinal, media id) of what was uploaded before.
    """

    number: int
    start_s: float
    seconds: float
    rate: float
    mix: dict[str, float]
    posted: list[tuple[int, int]]
    burst: tuple[float, float, float] | None = None
    celebrity_every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Handed:
    """A session that goes from one process to another; the first does not use it any more."""

    person: int
    user_id: int
    access_token: str
    refresh_token: str
    expires_s: float

    def session(self) -> Session:
        return Session(
            self.user_id, self.access_token, self.refresh_token, expires_s=self.expires_s
        )


def line_of(kind: str, content: Any = None) -> bytes:
    return json.dumps([kind, content]).encode() + b"\n"


def order_of(content: dict[str, Any]) -> Order:
    return Order(**content)


def turn_of(content: dict[str, Any]) -> Turn:
    return Turn(**content)


def handed_of(content: dict[str, Any]) -> Handed:
    return Handed(**content)


def content_of(told: Order | Turn | Handed) -> dict[str, Any]:
    return asdict(told)
