"""The whole product in this process: a gRPC server and projections on the memory twins.

async with serving() as world:
    ana = await world.register("ana")
    await world.likes.LikeMedia(…, metadata=ana.metadata)
    await world.process_all()
"""

import asyncio
import secrets
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from millrace.auth import sealing
from millrace.auth.keys import ensure_keys
from millrace.clock import SystemClock
from millrace.log.control import Control
from millrace.log.create import start_log
from millrace.log.dead import DeadLetters
from millrace.log.memory import MemoryLog
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.memcached_memory import MemoryCache
from millrace.stores.memory import MemoryStore
from millrace.views import comments, follows, likes, media, saves, users, vault
from millrace.views.data_keys import DataKeys, TextOpener
from services.catalogue import services_of
from services.parts import Parts, assemble
from services.rpc import Service
from services.server import Server
from social.v1 import users_pb2, users_pb2_grpc
from streams.projection import Projection

VIEWS = (
    vault.VIEW, users.VIEW, follows.VIEW, likes.VIEW, media.VIEW, comments.VIEW, saves.VIEW,
)  # fmt: skip
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Person:
    """A registered user as a client knows him. `metadata` signs his calls."""

    user_id: int
    handle: str
    access_token: str
    refresh_token: str
    position: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            ("authorization", f"Bearer {self.access_token}"),
            ("millrace-position", self.position),
        )


@dataclass
class World:
    """`hold(view)` stops a projection between two batches and `release(view)` lets it go on."""

    parts: Parts
    log: MemoryLog
    store: MemoryStore
    server: Server
    channel: grpc.aio.Channel
    users: Any
    address: str
    _gates: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def register(self, handle: str, request_id: str | None = None) -> Person:
        request = users_pb2.RegisterRequest(
            request_id=request_id or str(uuid.uuid4()),
            handle=handle,
            password=PASSWORD,
            display_name=handle.title(),
        )
        call = self.users.Register(request)
        answer = await call
        return Person(
            answer.user_id,
            handle,
            answer.access_token,
            answer.refresh_token,
            await position_of(call),
        )

    async def hold(self, view: View) -> None:
        await self._gates[view.name].acquire()

    def release(self, view: View) -> None:
        self._gates[view.name].release()

    async def until_waited_for(self, view: View) -> None:
        """Until some call waits for the view to go on."""
        async with asyncio.timeout(10.0):
            views = self.parts.positions._views
            while view.name not in views or not views[view.name].waiting:
                await asyncio.sleep(0)

    async def process_all(self) -> None:
        """Until every view covers the end of its topics."""
        for view in VIEWS:
            ends = {
                (topic, partition): number
                for topic in view.topics
                for partition, number in enumerate(await self.log.ends(topic))
                if number
            }
            assert await self.parts.positions.covers(view.name, ends, 10.0), view.name


@asynccontextmanager
async def serving(
    services: Sequence[Service] = (), views: Sequence[View] = VIEWS, **changed: Any
) -> AsyncIterator[World]:
    """`services`: in place of those of the same name. `changed`: settings. Admission is switched
    off unless they say otherwise: how busy the machine is must decide no test.
    """
    with tempfile.TemporaryDirectory() as folder:
        unlike_served: dict[str, Any] = {
            "keys_dir": f"{folder}/keys",
            "objects_url": f"file://{folder}/objects",
            "grpc_address": "127.0.0.1:0",
            "argon2_memory_kib": 64,
            "argon2_time_cost": 1,
            "stop_grace_s": 0.0,
            "admission_delay_ms": 0,
        }
        settings = Settings(**{**unlike_served, **changed})
        clock = SystemClock()
        log, store = MemoryLog(), MemoryStore()
        await start_log(log, clock, settings.user_id_block)
        control = Control(log)
        await control.catch_up()
        keys = ensure_keys(settings.keys_dir)
        parts = assemble(
            settings, clock, keys, log, control, store, MemoryFeedStore(), MemoryCache(clock)
        )
        async with _served(parts, log, store, services) as world:
            projecting = [await _projecting(world, view) for view in views]
            try:
                yield world
            finally:
                for task in projecting:
                    task.cancel()
                await asyncio.gather(*projecting, return_exceptions=True)


@asynccontextmanager
async def another_process(world: World) -> AsyncIterator[World]:
    """A second gRPC server on the log and the stores of `world`, whose projections serve both."""
    first = world.parts
    parts = assemble(
        first.settings,
        first.clock,
        first.keys,
        world.log,
        first.control,
        world.store,
        first.feeds,
        MemoryCache(first.clock),
    )
    async with _served(parts, world.log, world.store) as other:
        yield other


@asynccontextmanager
async def _served(
    parts: Parts, log: MemoryLog, store: MemoryStore, services: Sequence[Service] = ()
) -> AsyncIterator[World]:
    described = {
        service.descriptor.full_name: service for service in (*services_of(parts), *services)
    }
    server = Server(parts, list(described.values()))
    await server.start()
    address = f"127.0.0.1:{server.port}"
    channel = grpc.aio.insecure_channel(address)
    try:
        yield World(
            parts, log, store, server, channel, users_pb2_grpc.UsersServiceStub(channel), address
        )
    finally:
        await channel.close()
        await server.stop()
        await parts.positions.close()
        parts.passwords.close()
        await parts.cleaner.close()


async def _projecting(world: World, view: View) -> "asyncio.Task[None]":
    parts, log = world.parts, world.log
    partitions = {topic: log.partitions_of(topic) for topic in view.topics}
    await world.store.open_view(view.schema, partitions, parts.control.identity.log_id)
    gate = world._gates[view.name] = asyncio.Lock()
    keys = DataKeys(
        world.store,
        log,
        parts.clock,
        partial(sealing.open_secret, parts.keys.master),
        cached_max=100,
        wait_s=5.0,
    )
    projection = Projection(
        view,
        world.store,
        log,
        TextOpener(keys, sealing.open_text),
        DeadLetters(log, view.name, parts.clock, ratio_max=1.0, window_events=1000),
        parts.clock,
    )
    start = await projection.start_positions(
        [(topic, partition) for topic, count in partitions.items() for partition in range(count)]
    )
    reader = log.reader(start)

    async def run() -> None:
        while True:
            async with gate:
                await projection.step(reader, events_max=100, wait_s=0.02)

    return asyncio.create_task(run())


async def position_of(call: Any) -> str:
    """The position token of a finished call; empty when it has none."""
    return str(dict(await call.trailing_metadata()).get("millrace-position", ""))


@dataclass(frozen=True)
class Refusal:
    """What a client learns from a failed call."""

    code: grpc.StatusCode
    message: str
    reason: str
    trace: str
    fields: tuple[str, ...]
    retry_after_s: float | None


async def refusal(call: Any) -> Refusal:
    """The status of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("the call succeeded")


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        for message in (info, bad, retry):
            detail.Unpack(message)
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason,
        info.metadata["trace"],
        tuple(violation.field for violation in bad.field_violations),
        retry.retry_delay.ToMicroseconds() / 1e6 if retry.HasField("retry_delay") else None,
    )


def new_request_id() -> str:
    return str(uuid.UUID(bytes=secrets.token_bytes(16)))
