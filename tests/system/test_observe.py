"""What the processes of a running Millrace tell: health, metrics, traces; and no secrets."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.processes import healthy
from deploy.local.status import StackStatus
from millrace.client import Client, Session, new_request_id
from millrace.errors import InvalidRequest, Unauthenticated
from millrace.observe import metrics
from social.v1 import follows_pb2, media_pb2, media_pb2_grpc, users_pb2
from tests.running import PASSWORD, RunningMillrace, running_millrace

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(300)

PICTURE = (Path(__file__).parents[1] / "data" / "pictures" / "grass.jpg").read_bytes()
SERVICES = ("grpc-0", "grpc-1")
_PATIENCE_S = 30.0
_POLL_S = 0.1

# (metric, label, value of the label)
Sample = tuple[str, str, str]
UPLOADS = ("millrace_rpcs_total", "method", "/social.v1.MediaService/UploadMedia")
MEDIA_EVENTS = ("millrace_view_events_total", "view", "media")
ROWS = ("millrace_feed_rows_delivered_total", "topic", "chunks.small")
SWEEPS = ("millrace_sweeps_total", "outcome", "done")


@asynccontextmanager
async def client_of(millrace: RunningMillrace, process: str) -> AsyncIterator[Client]:
    """Of this one gRPC process: its health port serves all RPCs."""
    port = millrace.installation.started.health_ports[process]
    client = Client(f"127.0.0.1:{port}", connections=1)
    try:
        yield client
    finally:
        await client.close()


async def author_and_follower(millrace: RunningMillrace) -> tuple[Session, Session]:
    name = secrets.token_hex(4)
    author = await millrace.client.register(f"author.{name}", PASSWORD)
    follower = await millrace.client.register(f"reader.{name}", PASSWORD)
    request = follows_pb2.FollowRequest(request_id=new_request_id(), user_id=author.user_id)
    await millrace.client.call(lambda stubs: stubs.follows.Follow, request, follower)
    await millrace.process_all()
    return author, follower


def page_of(millrace: RunningMillrace, process: str) -> str:
    port = millrace.installation.started.metrics_ports[process]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


async def value(millrace: RunningMillrace, process: str, wanted: Sample) -> float:
    """The sum over the other labels; 0 before the first."""
    name, label, labelled = wanted
    page = await asyncio.to_thread(page_of, millrace, process)
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and sample.labels[label] == labelled
    )


async def until(true: Callable[[], Any]) -> None:
    """Of what another process writes in its own time."""
    ends_s = time.monotonic() + _PATIENCE_S
    while not await asyncio.to_thread(true):
        assert time.monotonic() < ends_s, "waited in vain"
        await asyncio.sleep(_POLL_S)


async def test_every_process_tells_its_health_and_all_metrics(
    running_millrace: RunningMillrace,
) -> None:
    ours = [value for name, value in vars(metrics).items() if name.isupper() and name[0] != "_"]
    names = {family.name for metric in ours for family in metric.describe()}
    assert set(running_millrace.names) == {*SERVICES, "projector", "fanout", "sweeper"}
    for process in running_millrace.names:
        await healthy(running_millrace.installation.started.health_ports[process])
        page = await asyncio.to_thread(page_of, running_millrace, process)
        assert names <= {family.name for family in text_string_to_metric_families(page)}, process


async def test_an_upload_moves_the_metrics_of_each_process(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    author, _ = await author_and_follower(millrace)
    watched = [
        *((process, UPLOADS, 1) for process in SERVICES),
        ("projector", MEDIA_EVENTS, len(SERVICES)),
        ("fanout", ROWS, len(SERVICES)),
    ]
    before = [await value(millrace, process, sample) for process, sample, _ in watched]
    for process in SERVICES:
        async with client_of(millrace, process) as client:
            await client.upload(author, PICTURE, request_id=new_request_id())
    await millrace.process_all()
    ends_s = time.monotonic() + _PATIENCE_S
    while True:
        after = [await value(millrace, process, sample) for process, sample, _ in watched]
        moved = [now - then for now, then in zip(after, before, strict=True)]
        if moved == [expected for _, _, expected in watched]:
            break
        assert time.monotonic() < ends_s, list(zip(watched, moved, strict=True))
        await asyncio.sleep(_POLL_S)
    # The sweeper looks once when it starts; uploads are nothing to it until they are a day old.
    assert await value(millrace, "sweeper", SWEEPS) >= 1


def lines(millrace: RunningMillrace) -> list[dict[str, Any]]:
    """Of all processes' logs; what is not JSON is a line of somebody else's."""
    return [
        json.loads(line)
        for process in millrace.names
        for line in millrace.supervisor.log(process).read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
    ]


def told(millrace: RunningMillrace, trace: str) -> set[tuple[str, str]]:
    """Which processes said what under this trace; the gRPC processes count as one."""
    return {
        (line["process"].removesuffix("-0").removesuffix("-1"), line["event"])
        for line in lines(millrace)
        if line.get("trace") == trace
    }


async def upload_traced(address: str, author: Session, traceparent: str) -> None:
    async def messages() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        header = media_pb2.UploadMediaHeader(request_id=new_request_id())
        yield media_pb2.UploadMediaRequest(header=header)
        yield media_pb2.UploadMediaRequest(chunk=PICTURE)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = media_pb2_grpc.MediaServiceStub(channel)
        metadata = (
            ("authorization", f"Bearer {author.access_token}"),
            ("traceparent", traceparent),
        )
        await stub.UploadMedia(messages(), metadata=metadata, timeout=60)


async def test_one_trace_is_found_in_service_projector_and_fan_out(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    author, _ = await author_and_follower(millrace)
    address = millrace.installation.grpc_address
    sampled, silent = secrets.token_hex(16), secrets.token_hex(16)
    await upload_traced(address, author, f"00-{silent}-{secrets.token_hex(8)}-00")
    await upload_traced(address, author, f"00-{sampled}-{secrets.token_hex(8)}-01")
    await until(lambda: len(told(millrace, sampled)) == 4)
    assert told(millrace, sampled) == {
        ("grpc", "answered"),
        ("projector", "applied"),
        ("fanout", "planned"),
        ("fanout", "delivering"),
    }
    # Its events are before the other's in the same partition, so it has passed everywhere.
    assert told(millrace, silent) == set()


async def test_no_log_holds_a_secret(running_millrace: RunningMillrace, stack: StackStatus) -> None:
    millrace = running_millrace
    said = {
        name: f"{name} {secrets.token_hex(12)}"
        for name in ("password", "wrong", "display", "bio", "caption", "broken")
    }
    tokens = await _live(millrace, said)
    hidden = [*said.values(), *tokens, *(part for token in tokens for part in _secret_parts(token))]
    needles = [text.encode() for text in hidden]
    needles += [base64.b64encode(text.encode()).rstrip(b"=") for text in said.values()]
    files = [millrace.supervisor.log(process) for process in millrace.names]
    files += sorted((Path(stack.data_dir) / "logs").iterdir())
    assert {file.stem for file in files} >= {*millrace.names, "kafka", "cassandra", "postgres"}
    for file in files:
        written = await asyncio.to_thread(file.read_bytes)
        assert not [needle for needle in needles if needle in written], file.name
    assert b"serving" in millrace.supervisor.log("grpc-0").read_bytes()


async def _live(millrace: RunningMillrace, said: dict[str, str]) -> list[str]:
    """Registers, logs in, refreshes, writes and fails with these texts, also while the database
    breaks all connections. Returns all tokens."""
    handle = f"s.{secrets.token_hex(4)}"
    async with client_of(millrace, "grpc-0") as client:
        first = await client.register(handle, said["password"], said["display"])
        second = await client.log_in(handle, said["password"])
        third = await client.log_in(handle, said["password"])
        tokens = [token for s in (first, second, third) for token in _tokens(s)]
        # The next call exchanges them.
        third.expires_s = 0.0
        with pytest.raises(Unauthenticated):
            await client.log_in(handle, said["wrong"])
        with pytest.raises(InvalidRequest):
            await client.register("!", said["password"], said["display"])
        with pytest.raises(InvalidRequest):
            await client.upload(second, b"no picture", said["broken"])
        profile = users_pb2.UpdateProfileRequest(
            request_id=new_request_id(), display_name=said["display"], bio=said["bio"]
        )
        await client.call(lambda stubs: stubs.users.UpdateProfile, profile, third)
        await client.upload(second, PICTURE, said["caption"])
        await _break_connections(millrace)
        await client.upload(second, PICTURE, said["caption"])
        await client.register(f"{handle}.2", said["password"], said["display"])
        await client.log_in(handle, said["password"])
    await millrace.process_all()
    assert third.refresh_token not in tokens
    return [*tokens, *_tokens(third)]


def _tokens(session: Session) -> tuple[str, str]:
    return session.access_token, session.refresh_token


async def _break_connections(millrace: RunningMillrace) -> None:
    connection = await asyncpg.connect(millrace.settings.postgres_dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


def _secret_parts(token: str) -> list[str]:
    """The parts of a JWT or of a refresh token that stand for it; not its public header."""
    return [part for part in token.split(".")[1:] if len(part) > 16]
