"""Clients that mean harm: every RPC by its descriptor, called with any bytes, each answer judged.

    async with attacked() as attack:
        outcome = await attack.call("garbage", rpc, b"\\xff", attack.actor.metadata)

The RPCs are those of the protos, so a new one falls into the suites by itself. `call` raises
AssertionError for an answer that docs/errors.md does not have for this RPC, or that tells of our
insides. When the block ends, others are still served, and tasks, descriptors and memory are back.
"""

import asyncio
import gc
import importlib
import os
import pkgutil
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

import social.v1
from services.rpc import OPEN_TO_ALL
from social.v1 import media_pb2, users_pb2
from tests.hostile_count import tried
from tests.serving import Person, World, serving
from tests.unit.pictures import coded, drawing

NOBODY = 10**15
PICTURE = coded(drawing(), "PNG")
Metadata = Sequence[tuple[str, str | bytes]]

# What is left behind at the end: idle decoders keep a pipe or two each, allocators keep pages.
TASKS_LEFT_MAX = 8
DESCRIPTORS_LEFT_MAX = 24
MEMORY_LEFT_MAX = 128 * 1024 * 1024
_BACK_WITHIN_S = 60.0
_CALL_S = 90.0
_NOT_STATE = ("control", "progress")
# Of a call that ended before gRPC's client had begun it; no server said that.
_CLIENTS_OWN = "Internal error from Core"
_OUR_INSIDES = re.compile(
    r"Traceback|\.py\b|asyncpg|aiokafka|cassandra|memcache|postgres|google\.protobuf| at 0x|Error\("
)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of the contract. `request` is its message class."""

    name: str
    path: str
    takes_stream: bool
    gives_stream: bool
    request: type[Message]
    method: MethodDescriptor

    @property
    def open_to_all(self) -> bool:
        return self.path in OPEN_TO_ALL


def _rpcs() -> Iterator[Rpc]:
    for module in pkgutil.iter_modules(social.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        protos = importlib.import_module(f"social.v1.{module.name}")
        for service in protos.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Rpc(
                    method.name,
                    f"/{service.full_name}/{method.name}",
                    method.client_streaming,
                    method.server_streaming,
                    GetMessageClass(method.input_type),
                    method,
                )


RPCS = {rpc.name: rpc for rpc in _rpcs()}


def _documented() -> tuple[set[tuple[str, str]], dict[str, set[tuple[str, str]]]]:
    """(code, reason) of every RPC, and of single ones by their names in docs/errors.md."""
    text = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
    of_all: set[tuple[str, str]] = set()
    of_one: dict[str, set[tuple[str, str]]] = {name: set() for name in RPCS}
    for section in text.split("\n## ")[1:]:
        for case, code, reason in re.findall(
            r"^\| ([^|]+) \| ([A-Z_]+) \| ([^|]+) \|", section, re.MULTILINE
        ):
            pair = (code, "" if reason.startswith("(none") else reason.strip())
            names = [one for one in re.split(r",\s*", case.split(":")[0]) if one in RPCS]
            for name in names:
                of_one[name].add(pair)
            if not names:
                of_all.add(pair)
    return of_all, of_one


_OF_ALL, _OF_ONE = _documented()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `answers` are the bytes of the responses that came before."""

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    trace: str = ""
    fields: tuple[str, ...] = ()
    retry: bool = False
    answers: tuple[bytes, ...] = ()

    @property
    def ok(self) -> bool:
        return self.code == grpc.StatusCode.OK

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason} {self.message} {self.fields}"


async def raw(
    channel: grpc.aio.Channel,
    rpc: Rpc,
    sent: Sequence[bytes],
    metadata: Metadata = (),
    **options: Any,
) -> Outcome:
    """One call with these bytes as its messages; unary RPCs send the first alone."""
    kind = ("stream" if rpc.takes_stream else "unary", "stream" if rpc.gives_stream else "unary")
    make: Any = getattr(channel, f"{kind[0]}_{kind[1]}")(rpc.path)
    options = {"timeout": _CALL_S, **options}
    answers: list[bytes] = []
    call = make(_each(sent) if rpc.takes_stream else sent[0], metadata=metadata, **options)
    try:
        if rpc.gives_stream:
            async for answer in call:
                answers.append(answer)  # noqa: PERF401  what came before an error counts
        else:
            answers.append(await call)
    except grpc.aio.AioRpcError as error:
        return outcome_of(error, tuple(answers))
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
        return Outcome(grpc.StatusCode.CANCELLED)
    return Outcome(grpc.StatusCode.OK, answers=tuple(answers))


async def _each(sent: Sequence[bytes]) -> AsyncIterator[bytes]:
    for one in sent:
        yield one


def outcome_of(error: grpc.aio.AioRpcError, answers: tuple[bytes, ...] = ()) -> Outcome:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                for message in (info, bad, retry):
                    detail.Unpack(message)
    return Outcome(
        error.code(),
        error.details() or "",
        info.reason,
        info.metadata["trace"],
        tuple(violation.field for violation in bad.field_violations),
        retry.HasField("retry_delay"),
        answers,
    )


def judge(rpc: Rpc, outcome: Outcome, *, own_deadline: bool = False) -> Outcome:
    """`own_deadline`: the client may end the call himself, with no details."""
    if outcome.ok:
        return outcome
    # The client also says so of a write that meets the end of its call (docs/upstream.md).
    if (own_deadline or rpc.takes_stream) and outcome.message == _CLIENTS_OWN:
        return outcome
    assert not _OUR_INSIDES.search(outcome.message), f"{rpc.name}: {outcome}"
    assert outcome.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), (
        f"{rpc.name}: {outcome}"
    )
    ended = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
    if own_deadline and outcome.code in ended:
        return outcome
    pair = (outcome.code.name, outcome.reason)
    assert pair in _OF_ALL | _OF_ONE[rpc.name], f"docs/errors.md has no {pair} for {rpc.name}"
    if outcome.reason:
        assert len(outcome.trace) == 32, f"{rpc.name}: {outcome}"
    if outcome.reason == "INVALID_FIELD":
        assert outcome.fields
    return outcome


@dataclass
class Footprint:
    """What this process, client and server in one, holds on to."""

    tasks: int = field(default_factory=lambda: len(asyncio.all_tasks()))
    descriptors: int = field(default_factory=lambda: len(os.listdir("/proc/self/fd")))
    memory_bytes: int = field(default_factory=lambda: psutil.Process().memory_info().rss)

    def is_back(self, before: "Footprint") -> bool:
        return (
            self.tasks <= before.tasks + TASKS_LEFT_MAX
            and self.descriptors <= before.descriptors + DESCRIPTORS_LEFT_MAX
            and self.memory_bytes <= before.memory_bytes + MEMORY_LEFT_MAX
        )


class Attack:
    """A world under attack. `actor` is who attacks, `ben` is somebody else."""

    def __init__(self, world: World, actor: Person, ben: Person) -> None:
        self.world = world
        self.actor = actor
        self.ben = ben
        self.media_id = NOBODY
        self.bens_media_id = NOBODY
        self.served: set[str] = set()
        self._registered = 2

    async def call(
        self,
        kind: str,
        rpc: Rpc,
        sent: bytes | Message | Sequence[bytes],
        metadata: Metadata | None = None,
        *,
        own_deadline: bool = False,
        concurrent: bool = False,
        **options: Any,
    ) -> Outcome:
        """By the actor unless other metadata are given. Counted as a try of this kind; a refusal
        must have written nothing, which is not looked at when calls are `concurrent`.
        """
        if isinstance(sent, Message):
            sent = sent.SerializeToString()
        messages = (sent,) if isinstance(sent, bytes) else sent
        tried(kind)
        signed = self.actor.metadata if metadata is None else metadata
        before = self._records()
        outcome = await raw(self.world.channel, rpc, messages, signed, **options)
        if _wrote_nothing(outcome) and not concurrent:
            assert self._records() == before, f"{rpc.name} wrote although {outcome}"
        return judge(rpc, outcome, own_deadline=own_deadline)

    @asynccontextmanager
    async def nothing_written(self) -> AsyncIterator[None]:
        """The log, which is the truth, and the uploads' room are at the end what they were."""
        before = self._records(), self._objects()
        yield
        assert (self._records(), self._objects()) == before
        assert not self.world.parts.cleaner.room.taken_bytes
        await self.others_are_served()

    def _records(self) -> int:
        places = self.world.log._records.items()
        return sum(len(records) for (topic, _), records in places if topic not in _NOT_STATE)

    def _objects(self) -> int:
        folder = Path(self.world.parts.settings.objects_url.removeprefix("file://"))
        return sum(1 for file in folder.rglob("*") if file.is_file())

    async def others_are_served(self) -> None:
        request = users_pb2.GetUsersRequest(user_ids=[self.ben.user_id])
        answer = await self.world.users.GetUsers(request, metadata=self.ben.metadata, timeout=60)
        assert [user.handle for user in answer.users] == [self.ben.handle]

    async def renew(self) -> None:
        """Another actor, if something that succeeded has ended this one, and his item."""
        while not await self._stands():
            self._registered += 1
            self.actor = await self.world.register(f"actor{self._registered}")
            # What he was told has failed may still be done to him: then it is another's turn.
            published = await self._publish(self.actor)
            self.media_id = published or self.media_id

    async def _stands(self) -> bool:
        request = users_pb2.GetUsersRequest(user_ids=[self.actor.user_id])
        stands = await raw(
            self.world.channel, RPCS["GetUsers"], [_bytes(request)], self.actor.metadata
        )
        return stands.ok and (await self._has_item() or await self._republished())

    async def _republished(self) -> bool:
        published = await self._publish(self.actor)
        self.media_id = published or self.media_id
        return published is not None

    async def _has_item(self) -> bool:
        request = media_pb2.GetMediaRequest(media_ids=[self.media_id])
        found = await raw(
            self.world.channel, RPCS["GetMedia"], [_bytes(request)], self.actor.metadata
        )
        return found.ok and bool(media_pb2.GetMediaResponse.FromString(found.answers[0]).items)

    async def publish(self, who: Person, data: bytes = PICTURE, **header: Any) -> int:
        """The id of a new item of his."""
        published = await self._publish(who, data, **header)
        assert published is not None
        return published

    async def _publish(self, who: Person, data: bytes = PICTURE, **header: Any) -> int | None:
        first = media_pb2.UploadMediaHeader(**{"request_id": str(uuid.uuid4()), **header})
        sent = [
            _bytes(media_pb2.UploadMediaRequest(header=first)),
            _bytes(media_pb2.UploadMediaRequest(chunk=data)),
        ]
        done = await raw(self.world.channel, RPCS["UploadMedia"], sent, who.metadata)
        return (
            media_pb2.UploadMediaResponse.FromString(done.answers[0]).media.id if done.ok else None
        )


def _bytes(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _wrote_nothing(outcome: Outcome) -> bool:
    """What docs/errors.md says of every refusal but these."""
    unknown = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return not (outcome.ok or outcome.code in unknown or outcome.reason == "REFRESH_TOKEN_REUSED")


async def served_rpcs(channel: grpc.aio.Channel) -> set[str]:
    """Names of the RPCs that have a servicer: the others answer UNIMPLEMENTED to everything."""
    found = set()
    for rpc in RPCS.values():
        outcome = await raw(channel, rpc, [b""])
        if outcome.code != grpc.StatusCode.UNIMPLEMENTED:
            found.add(rpc.name)
    return found


@asynccontextmanager
async def attacked(**changed: Any) -> AsyncIterator[Attack]:
    """`changed`: settings. Patience is long, so that a busy machine decides nothing."""
    patient: dict[str, Any] = {
        "handler_deadline_s": 60.0,
        "apply_wait_s": 30.0,
        "token_wait_ms": 10_000,
        "admission_delay_ms": 0,
    }
    async with serving(**{**patient, **changed}) as world:
        attack = Attack(world, await world.register("actor"), await world.register("ben"))
        attack.media_id = await attack.publish(attack.actor)
        attack.bens_media_id = await attack.publish(attack.ben)
        await world.process_all()
        attack.served = await served_rpcs(world.channel)
        gc.collect()
        before = Footprint()
        yield attack
        await attack.others_are_served()
        await until(lambda: Footprint().is_back(before), lambda: f"{before} -> {Footprint()}")


async def until(true: Callable[[], bool], told: Callable[[], str] = str) -> None:
    ends_s = asyncio.get_running_loop().time() + _BACK_WITHIN_S
    while not true():
        gc.collect()
        assert asyncio.get_running_loop().time() < ends_s, told()
        await asyncio.sleep(0.02)
