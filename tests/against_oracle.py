"""Plays random calls against a server and the oracle, and compares every answer.

    lane = Lane(target, seed=7)   # a server with SETTINGS
    await lane.play(800)          # raises Mismatch with seed, step, calls before it
    await lane.look_at_all()      # every user, item, list and feed

A call waits until the views cover all writes before it; it is the positions that say so, never
the time. It goes without that after writes that answer when they hold for everybody, and now and
then a user's read does right after his own writes: his token must do.
"""

import asyncio
import os
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import grpc
from google.protobuf.message import Message

from millrace.oracle import Answers, Impossible, Refused
from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)
from tests.operation_calls import Outcome, call, no_answer
from tests.operations import APPLIED, ENDING, Operation, Operations
from tests.oracle_differences import bare, check_broken, times
from tests.random_fields import CONTENTS

FOLLOWEES_MAX = 4
# Nothing may end or run out by itself: the model has no clock.
SETTINGS: dict[str, Any] = {
    "followees_max": FOLLOWEES_MAX,
    "refresh_grace_s": 10**6,
    "access_token_ttl_s": 10**6,
    "rate_log_in_failures_max": 10**6,
    "rate_log_in_handle_failures_max": 10**6,
    "rate_registers_per_hour_max": 10**6,
    "rate_uploads_per_hour_max": 10**6,
}
LAST_SHOWN = 20
PAGES_MAX = 500
TRIES_MAX = 60
PAUSE_S, PAUSE_MAX_S = 0.05, 1.0
LOST = "lost"
ENDED = "UNAUTHENTICATED SESSION_ENDED"


def seeds(*fixed: int) -> tuple[int, ...]:
    """The fixed ones, so that `make test` is the same each time; or the one that is asked for."""
    asked = os.environ.get("MILLRACE_TEST_SEED")
    return (int(asked),) if asked else fixed


def fresh_seed() -> int:
    """One that nobody has tried: a failure names it, and so does what the test prints."""
    (seed,) = seeds(secrets.randbelow(1 << 32))
    print(f"\nMILLRACE_TEST_SEED={seed}")
    return seed


class Mismatch(AssertionError):
    """The server and the model do not agree."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. `cover(tokens)` returns when the views cover all that the tokens name."""

    channels: Sequence[grpc.aio.Channel]
    cover: Callable[[Sequence[str]], Awaitable[None]]


class Lane:
    """One caller after another, all with users of this lane."""

    def __init__(self, target: Target, *, seed: int, lane: int = 0) -> None:
        self._target = target
        self._named = f"seed {seed}, lane {lane}"
        self._rng = Random(f"{seed} {lane} wire")
        self.answers = Answers(FOLLOWEES_MAX, CONTENTS)
        rng = Random(f"{seed} {lane}")
        self.operations = Operations(rng, self.answers, lane=lane)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.tried_again: Counter[str] = Counter()
        self._step = 0
        self._last: deque[str] = deque(maxlen=LAST_SHOWN)
        self._positions: dict[int, list[str]] = {}
        self._uncovered: list[tuple[int, str]] = []
        self.created: dict[tuple[str, int], int] = {}

    async def play(self, operations: int) -> None:
        for _ in range(operations):
            await self.do(self.operations.next())

    async def do(self, operation: Operation) -> None:
        """One call, or all calls of a walk through a list."""
        self._step += 1
        await self._wait(operation)
        if operation.twice:
            outcomes = await asyncio.gather(self._sent(operation), self._sent(operation))
            self._take_positions(operation, outcomes)
            for outcome in outcomes:
                self._compare(operation, outcome)
            return
        for _ in range(PAGES_MAX):
            outcome = await self._sent(operation)
            self._take_positions(operation, [outcome])
            self._compare(operation, outcome)
            token = getattr(outcome.answer, "next_page_token", "")
            if not operation.walk or not token:
                return
            request = type(operation.requests[0])()
            request.CopyFrom(operation.requests[0])
            request.page_token = token
            request.page_size = self._rng.choice((0, 1, 2, 3, 5, 100))
            operation = Operation(operation.method, operation.bearer, (request,), walk=True)
        raise Mismatch(f"{self._named}: a list without end: {operation}")

    async def look_at_all(self) -> None:
        """Everything that there is, as one user sees it, and everybody's feed and saves."""
        state = self.answers.state
        for bearer, request in list(self._looks(next(iter(self.operations.active()), ""))):
            method = request.DESCRIPTOR.name.removesuffix("Request")
            await self.do(Operation(method, bearer, (request,), walk=True))
        for user_id in list(state.users):
            log_in = users_pb2.LogInRequest(
                handle=state.handle(user_id), password=self.answers.accounts.passwords[user_id]
            )
            await self.do(Operation("LogIn", "", (log_in,)))
            bearer = list(self.answers.accounts.sessions)[-1]
            feed = feed_pb2.GetFeedRequest(require_complete=True, page_size=7)
            await self.do(Operation("GetFeed", bearer, (feed,), walk=True))
            saved = saves_pb2.ListSavedRequest(page_size=3)
            await self.do(Operation("ListSaved", bearer, (saved,), walk=True))

    def _looks(self, bearer: str) -> Iterator[tuple[str, Any]]:
        state = self.answers.state
        users, media = list(state.users), list(state.media)
        for some in (users[at : at + 100] for at in range(0, len(users), 100)):
            yield bearer, users_pb2.GetUsersRequest(user_ids=some)
        for some in (media[at : at + 100] for at in range(0, len(media), 100)):
            yield bearer, media_pb2.GetMediaRequest(media_ids=some)
        for user_id in users:
            yield bearer, media_pb2.ListUserMediaRequest(user_id=user_id, page_size=100)
            yield bearer, follows_pb2.ListFollowersRequest(user_id=user_id, page_size=3)
            yield bearer, follows_pb2.ListFollowingRequest(user_id=user_id, page_size=100)
        for media_id in media:
            if not state.media[media_id].deleted:
                yield bearer, likes_pb2.ListLikersRequest(media_id=media_id, page_size=100)
                yield bearer, comments_pb2.ListCommentsRequest(media_id=media_id, page_size=100)

    # the server

    async def _sent(self, operation: Operation) -> Outcome:
        doubtful = False
        for tries in range(TRIES_MAX):
            outcome = await self.call(operation)
            if not (why := outcome.again):
                break
            # The same request again, when the server says, with all writes covered.
            self.tried_again[why] += 1
            doubtful |= why != "stale" and not why.startswith("RESOURCE_EXHAUSTED")
            await asyncio.sleep(max(outcome.retry_after_s, min(tries * PAUSE_S, PAUSE_MAX_S)))
            await self._cover()
        return replace(outcome, doubtful=doubtful)

    def _take_positions(self, operation: Operation, outcomes: Sequence[Outcome]) -> None:
        """Each covers what was sent with its call; those of calls at once are sent together."""
        actor = self._actor(operation) or getattr(outcomes[0].answer, "user_id", 0)
        if tokens := [outcome.position for outcome in outcomes if outcome.position]:
            self._positions[actor] = tokens
        for outcome in outcomes:
            holds = operation.method in APPLIED and not getattr(outcome.answer, "pending", False)
            if outcome.position and not holds:
                self._uncovered.append((actor, outcome.position))

    async def call(self, operation: Operation) -> Outcome:
        """Once, by any of the channels."""
        channel = self._rng.choice(self._target.channels)
        return await call(channel, operation, self._positions.get(self._actor(operation), ()))

    def _actor(self, operation: Operation) -> int:
        session = self.answers.accounts.sessions.get(operation.bearer)
        return session.user_id if session else 0

    async def _wait(self, operation: Operation) -> None:
        writers = {writer for writer, _ in self._uncovered}
        reads = not hasattr(operation.requests[0], "request_id") and operation.bearer
        own = reads and writers <= {self._actor(operation)}
        if not own or self._rng.random() < 0.5:
            await self._cover()

    async def _cover(self) -> None:
        if self._uncovered:
            await self._target.cover([token for _, token in self._uncovered])
            self._uncovered.clear()

    # the model

    def _compare(self, operation: Operation, outcome: Outcome) -> None:
        expected: Any = None
        allowed: frozenset[str] = frozenset()
        if self._was_done_before(operation, outcome):
            outcome = self._done_before(operation)
        seen = no_answer(operation) if outcome.answer is None else outcome.answer
        try:
            expected = self._expected(operation, seen)
        except Refused as refused:
            allowed = refused.allowed
            if outcome.doubtful and operation.method == "RefreshToken":
                allowed |= {ENDED}
        except Impossible as wrong:
            raise self._mismatch(operation, wrong, outcome) from wrong
        if allowed:
            agree = outcome.refused in allowed
        else:
            agree = outcome.answer is not None and bare(expected) == bare(seen)
        if not agree:
            raise self._mismatch(operation, set(allowed) or expected, outcome)
        for key, at in times(seen):
            if self.created.setdefault(key, at) != at:
                raise self._mismatch(operation, f"{key} made at {self.created[key]}", outcome)
        self._last.append(f"{self._step}: {operation} -> {outcome.refused or 'OK'}")
        self.counts[operation.method, outcome.refused or "OK"] += 1
        # Nobody has its token.
        self.answers.accounts.sessions.pop(LOST, None)

    def _was_done_before(self, operation: Operation, outcome: Outcome) -> bool:
        """Its own session has ended, so a try of which no answer came has done it."""
        session = self.answers.accounts.sessions.get(operation.bearer)
        stands = session is not None and not session.ended
        ended = outcome.doubtful and outcome.refused == ENDED
        return operation.method in ENDING and stands and ended

    def _done_before(self, operation: Operation) -> Outcome:
        answer = no_answer(operation)
        if operation.method == "ChangePassword":
            answer.access_token, answer.expires_in_s = LOST, 1
            answer.refresh_token = f"{LOST} in step {self._step}"
        return Outcome(answer)

    def _expected(self, operation: Operation, seen: Any) -> Message:
        """Raises Refused and Impossible."""
        if operation.broken:
            check_broken(operation.requests)
            raise Refused("INVALID_ARGUMENT INVALID_FIELD")
        return self.answers.answer(operation.method, operation.bearer, operation.requests, seen)

    def _mismatch(self, operation: Operation, expected: object, outcome: Outcome) -> Mismatch:
        before = "\n".join(self._last)
        got = outcome.refused or outcome.answer
        return Mismatch(
            f"{self._named}, step {self._step}: {operation}\n"
            f"expected:\n{expected}\ngot:\n{got}\nbefore:\n{before}"
        )
