"""Plays random calls against a server and the oracle, and compares every answer.

    lane = Lane(target, seed=7, followees_max=5)
    await lane.play(800)          # raises Mismatch with seed, step, calls before it
    await lane.look_at_all()      # every user, item, list and feed
    differences((await read_history(…)).oracle, whole([lane]))

A call waits until the views cover all writes before it; it is the positions that say so, never
the time. Now and then a user's read right after his own writes goes without that: his token must
do.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from random import Random
from typing import Any

import grpc
import protovalidate
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from millrace.oracle import Answers, Impossible, Oracle, Refused
from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    users_pb2,
)
from tests.operations import Operation, Operations
from tests.random_fields import CONTENTS
from tests.serving import refusal_of

POSITION = "millrace-position"
LAST_SHOWN = 20
PAGES_MAX = 500
TRIES_MAX = 20
_UNKNOWN = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
# grpc.aio's client (1.85) says so, instead of what the server answered, when its own writing meets
# the end of the call.
_LOST = "INTERNAL"
_PROTOS = (users_pb2, media_pb2, follows_pb2, likes_pb2, comments_pb2, feed_pb2)
# Times are looked at beside the comparison, the others are no promise about content.
_LEFT_OUT = ("created_at", "stale", "pending", "receipt", "reason")


class Mismatch(AssertionError):
    """The server and the model do not agree."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. `cover(tokens)` returns when the views cover all that the tokens name."""

    channels: Sequence[grpc.aio.Channel]
    cover: Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: an answer, or "CODE REASON"."""

    answer: Any = None
    refused: str = ""
    position: str = ""
    retry_after_s: float = 0.0


class Lane:
    """One caller after another, all with users of this lane."""

    def __init__(self, target: Target, *, seed: int, lane: int = 0, followees_max: int) -> None:
        self._target = target
        self._named = f"seed {seed}, lane {lane}"
        self._rng = Random(f"{seed} {lane} wire")
        self.answers = Answers(followees_max, CONTENTS)
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
        """Everything that there is, as one user sees it, and everybody's feed."""
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
        for _ in range(TRIES_MAX):
            outcome = await self.call(operation)
            behind = getattr(outcome.answer, "stale", False)
            if not behind and not outcome.refused.startswith(_UNKNOWN) and outcome.refused != _LOST:
                break
            # The same request again, when the server says, with all writes covered.
            self.tried_again[outcome.refused or "stale"] += 1
            await asyncio.sleep(outcome.retry_after_s)
            await self._cover()
        return outcome

    def _take_positions(self, operation: Operation, outcomes: Sequence[Outcome]) -> None:
        """Each covers what was sent with its call; those of calls at once are sent together."""
        actor = self._actor(operation) or getattr(outcomes[0].answer, "user_id", 0)
        if tokens := [outcome.position for outcome in outcomes if outcome.position]:
            self._positions[actor] = tokens
            self._uncovered += [(actor, token) for token in tokens]

    async def call(self, operation: Operation) -> Outcome:
        """Once, by any of the channels."""
        method, metadata = _methods()[operation.method], []
        if operation.bearer:
            metadata.append(("authorization", f"Bearer {operation.bearer}"))
        positions = self._positions.get(self._actor(operation), ())
        metadata += [(POSITION, position) for position in positions]
        call = _started(self._rng.choice(self._target.channels), method, operation, metadata)
        try:
            if method.server_streaming:
                answer = _joined([message async for message in call])
            else:
                answer = await call
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
            told = f"{refused.code.name} {refused.reason}".strip()
            return Outcome(refused=told, retry_after_s=refused.retry_after_s or 0.0)
        trailing = dict(await call.trailing_metadata() or ())
        return Outcome(answer, position=str(trailing.get(POSITION, "")))

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
        seen = outcome.answer
        if seen is None:
            seen = GetMessageClass(_methods()[operation.method].output_type)()
        try:
            expected = self._expected(operation, seen)
        except Refused as refused:
            allowed = refused.allowed
        except Impossible as wrong:
            raise self._mismatch(operation, wrong, outcome) from wrong
        if allowed:
            agree = outcome.refused in allowed
        else:
            agree = outcome.answer is not None and _bare(expected) == _bare(seen)
        if not agree:
            raise self._mismatch(operation, set(allowed) or expected, outcome)
        for key, at in _times(seen):
            if self.created.setdefault(key, at) != at:
                raise self._mismatch(operation, f"{key} made at {self.created[key]}", outcome)
        self._last.append(f"{self._step}: {operation} -> {outcome.refused or 'OK'}")
        self.counts[operation.method, outcome.refused or "OK"] += 1

    def _expected(self, operation: Operation, seen: Any) -> Message:
        """Raises Refused and Impossible."""
        if operation.broken:
            _check_broken(operation.requests)
            raise Refused("INVALID_ARGUMENT INVALID_FIELD")
        return self.answers.answer(operation.method, operation.bearer, operation.requests, seen)

    def _mismatch(self, operation: Operation, expected: object, outcome: Outcome) -> Mismatch:
        before = "\n".join(self._last)
        got = outcome.refused or outcome.answer
        return Mismatch(
            f"{self._named}, step {self._step}: {operation}\n"
            f"expected:\n{expected}\ngot:\n{got}\nbefore:\n{before}"
        )


@cache
def _methods() -> dict[str, MethodDescriptor]:
    return {
        method.name: method
        for protos in _PROTOS
        for service in protos.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _started(
    channel: Any, method: MethodDescriptor, operation: Operation, metadata: list[tuple[str, str]]
) -> Any:
    shapes = {
        (False, False): channel.unary_unary, (False, True): channel.unary_stream,
        (True, False): channel.stream_unary, (True, True): channel.stream_stream,
    }  # fmt: skip
    rpc = shapes[method.client_streaming, method.server_streaming](
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = operation.requests if method.client_streaming else operation.requests[0]
    return rpc(iter(sent) if method.client_streaming else sent, metadata=metadata, timeout=60)


def _joined(messages: list[Any]) -> Any:
    """A stream of answers as the model tells it."""
    if isinstance(messages[0], media_pb2.DownloadMediaResponse):
        header = messages[0].header
        data = b"".join(message.chunk for message in messages[1:])
        assert len(data) == header.size_bytes
        assert hashlib.sha256(data).digest() == header.sha256
        return header
    numbers = [message.acknowledged_sequence for message in messages]
    assert numbers == sorted(numbers), "an acknowledgement went back"
    return likes_pb2.RecordLikesResponse(
        acknowledged_sequence=numbers[-1],
        refused=[one for message in messages for one in message.refused],
    )


def _bare(message: Any) -> Message:
    """Without what the model does not know."""
    bare: Message = type(message)()
    bare.CopyFrom(message)
    for one in _each(bare):
        for name in _LEFT_OUT:
            if name in one.DESCRIPTOR.fields_by_name:
                one.ClearField(name)
    return bare


def _each(message: Message) -> Iterator[Message]:
    """The message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if field.is_repeated else (value,):
                yield from _each(one)


def _times(message: Message) -> Iterator[tuple[tuple[str, int], int]]:
    """((kind, id), when it was made in ms) of all that is shown."""
    for one in _each(message):
        if "created_at" in one.DESCRIPTOR.fields_by_name:
            made: Any = one
            yield (one.DESCRIPTOR.name, made.id), made.created_at.ToMilliseconds()


def _check_broken(requests: Sequence[Message]) -> None:
    """That a field breaks its rule is the library's word, not the generator's."""
    if "\0" in str(requests) or "\\000" in str(requests):
        return
    try:
        protovalidate.validate(requests[0])
    except protovalidate.ValidationError:
        return
    raise AssertionError(f"no rule is broken: {requests[0]}")


def whole(lanes: Sequence[Lane]) -> Oracle:
    """All lanes as one: none knows anything of another's."""
    found = Oracle()
    for lane in lanes:
        for name in (field.name for field in fields(found)):
            held = getattr(found, name)
            assert not held.keys() & getattr(lane.answers.state, name).keys() - {0}
            held.update(getattr(lane.answers.state, name))
    return found


def differences(one: Oracle, other: Oracle) -> list[str]:
    """What two models do not agree on."""
    left, right = _facts(one), _facts(other)
    return [
        f"{name} {key}: {left[name].get(key)} / {right[name].get(key)}"
        for name in left
        for key in left[name].keys() | right[name].keys()
        if left[name].get(key) != right[name].get(key)
    ]


def wrong_times(lanes: Sequence[Lane], log: Oracle) -> list[tuple[str, int]]:
    """Of all that was shown, what was not made when the log says."""
    held: dict[str, dict[int, Any]] = {
        "User": log.users, "MediaItem": log.media, "Comment": log.comments,
    }  # fmt: skip
    return [
        (kind, id_)
        for lane in lanes
        for (kind, id_), at_ms in lane.created.items()
        if held[kind][id_].at_ms != at_ms
    ]


def _facts(oracle: Oracle) -> dict[str, dict[Any, Any]]:
    return {
        "user": {
            one: (oracle.handle(one), user.display_name, user.bio, user.deactivated)
            for one, user in oracle.users.items()
        },
        "names held by": dict(Counter(name.user_id for name in oracle.names.values())),
        "media": dict(oracle.media.items()),
        "comment": dict(oracle.comments.items()),
        "upload": dict(oracle.uploads.items()),
        "remark": dict(oracle.remarks.items()),
        **{
            name: {one: sorted(others) for one, others in edges.items() if others}
            for name, edges in (
                ("following", oracle.following), ("followers", oracle.followers),
                ("likers", oracle.likers), ("media of", oracle.media_of),
                ("comments of", oracle.comments_of),
            )
        },
    }  # fmt: skip
