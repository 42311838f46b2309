"""Everything is said with one mark in it to the real processes; no log and no topic has the mark.

Passwords, names, bios, captions, comments, handles, file names and metadata carry the mark, in
requests that are served, refused, broken, and that meet a database which fails. The processes
log at level debug. This is the hostile suite on the real stores as well: each field of each RPC
at its limits, with what 64-bit columns and texts in a database may not like.
"""

import asyncio
import base64
import json
import os
import secrets
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import StackStatus
from millrace.log.topics import TOPICS
from social.v1 import media_pb2, users_pb2
from tests.hostile import (
    DESCRIPTORS_LEFT_MAX,
    MEMORY_LEFT_MAX,
    RPCS,
    Metadata,
    Outcome,
    Rpc,
    judge,
    raw,
    served_rpcs,
    until,
)
from tests.hostile_count import tried
from tests.hostile_http2 import Sent, framed, send_all
from tests.hostile_requests import TEXTS, allowed, fields_tried, sent
from tests.running import RunningMillrace, running
from tests.serving import PASSWORD, Person
from tests.unit.pictures import coded, drawing

pytestmark = pytest.mark.timeout(400)

MARK = f"q{secrets.token_hex(7)}"
FORGED = f'\n{{"level": "error", "event": "{MARK}"}}\n'
PICTURE = coded(drawing(), "JPEG") + MARK.encode()
LONG = 3 * MARK


@dataclass
class Talk:
    """Who talks with the processes, over raw channels; every token that was ever given out."""

    millrace: RunningMillrace
    channel: grpc.aio.Channel
    actor: Person = field(init=False)
    ben: Person = field(init=False)
    media_id: int = 0
    served: set[str] = field(default_factory=set)
    tokens: list[str] = field(default_factory=list)

    async def register(self) -> Person:
        handle = f"{MARK}.{secrets.token_hex(4)}"
        request = users_pb2.RegisterRequest(
            request_id=str(uuid.uuid4()), handle=handle, password=PASSWORD, display_name=MARK
        )
        outcome = await self.say("Register", [request.SerializeToString()], ())
        assert outcome.ok, outcome
        got = users_pb2.RegisterResponse.FromString(outcome.answers[0])
        self.tokens += [got.access_token, got.refresh_token]
        return Person(got.user_id, handle, got.access_token, got.refresh_token, "")

    async def say(
        self, name: str, messages: list[bytes], metadata: Metadata | None = None
    ) -> Outcome:
        signed = self.actor.metadata[:1] if metadata is None else metadata
        told = [*signed, ("x-said", MARK), ("x-said-bin", MARK.encode())]
        outcome = await raw(self.channel, RPCS[name], messages, told, timeout=30)
        return judge(RPCS[name], outcome)

    async def renew(self) -> None:
        """As Attack.renew."""
        request = users_pb2.GetUsersRequest(user_ids=[self.ben.user_id])
        if not (await self.say("GetUsers", [request.SerializeToString()])).ok:
            self.actor = await self.register()
        item = media_pb2.GetMediaRequest(media_ids=[self.media_id or 1])
        found = await self.say("GetMedia", [item.SerializeToString()])
        if not media_pb2.GetMediaResponse.FromString(found.answers[0]).items:
            self.media_id = (await self.publish(f"{MARK}{FORGED}")).id

    async def publish(self, caption: str) -> media_pb2.MediaItem:
        header = media_pb2.UploadMediaHeader(
            request_id=str(uuid.uuid4()), caption=caption, media_type=MARK
        )
        parts = [
            media_pb2.UploadMediaRequest(header=header).SerializeToString(),
            media_pb2.UploadMediaRequest(chunk=PICTURE).SerializeToString(),
        ]
        done = await self.say("UploadMedia", parts)
        assert done.ok, done
        return media_pb2.UploadMediaResponse.FromString(done.answers[0]).media


@pytest.fixture(scope="module")
async def talk(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    os.environ["MILLRACE_LOG_LEVEL"] = "debug"
    try:
        async with (
            running(stack, tmp_path_factory.mktemp("millrace")) as millrace,
            grpc.aio.insecure_channel(millrace.installation.grpc_address) as channel,
        ):
            talk = Talk(millrace, channel)
            talk.served = await served_rpcs(channel)
            talk.actor, talk.ben = await talk.register(), await talk.register()
            await talk.renew()
            yield talk
    finally:
        del os.environ["MILLRACE_LOG_LEVEL"]


def processes(talk: Talk) -> dict[str, psutil.Process]:
    return {name: psutil.Process(talk.millrace.pid(name)) for name in talk.millrace.names}


def grown(now: dict[str, psutil.Process], before: dict[str, tuple[int, int]]) -> list[str]:
    """Processes that hold more memory or descriptors than before, idle connections aside."""
    return [
        name
        for name, (memory_bytes, descriptors) in before.items()
        if now[name].memory_info().rss > memory_bytes + MEMORY_LEFT_MAX
        or now[name].num_fds() > descriptors + DESCRIPTORS_LEFT_MAX
    ]


@pytest.mark.parametrize(
    "all_of_them", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "all"]
)
async def test_each_field_at_its_limits_on_the_real_stores(talk: Talk, all_of_them: bool) -> None:
    """Neither refused for its form nor too much for a store, and no process has died of it."""
    began = processes(talk)
    before = {name: (one.memory_info().rss, one.num_fds()) for name, one in began.items()}
    for rpc in RPCS.values():
        if rpc.name not in talk.served:
            continue
        await talk.renew()
        for one in fields_tried(rpc, talk):
            if one.breaks is not None or not (all_of_them or _is_for_stores(one.label)):
                continue
            outcome = await talk.say(rpc.name, list(one.messages))
            tried("fields at a limit, on the real stores")
            assert outcome.reason != "INVALID_FIELD", f"{rpc.name} {one.label}: {outcome}"
            if outcome.ok and not _only_reads(rpc):
                await talk.renew()
    assert processes(talk) == began
    await until(lambda: not grown(began, before))


def _is_for_stores(label: str) -> bool:
    """Numbers of 64 bits, long lists, texts that are no plain letters."""
    return any(
        word in label for word in ("2200 of", "300 of", "1000 of", "64 of", "100 items")
    ) or (label.split(": ")[1] in (str(2**63 - 1), str(2**31 - 1), "controls", "not a character"))


def _only_reads(rpc: Rpc) -> bool:
    return rpc.name.startswith(("Get", "List", "Download"))


async def test_texts_come_back_from_postgresql_as_they_were_sent(talk: Talk) -> None:
    await talk.renew()
    for name, text in TEXTS.items():
        assert (await talk.publish(text)).caption == text, name
        tried("texts that are traps, on the real stores")


async def test_everything_is_said_with_the_mark(talk: Talk) -> None:
    for rpc in RPCS.values():
        if rpc.name not in talk.served:
            continue
        await talk.renew()
        for messages in marked(rpc, talk):
            outcome = await talk.say(rpc.name, messages)
            tried("said with a mark")
            if outcome.ok and not _only_reads(rpc):
                await talk.renew()
        for metadata in (
            [("authorization", f"Bearer {MARK}.{MARK}.{MARK}")],
            [("authorization", MARK)],
            [*talk.actor.metadata[:1], ("millrace-position", MARK)],
            [*talk.actor.metadata[:1], ("traceparent", f"00-{MARK * 2}-{MARK}-01")],
        ):
            await talk.say(rpc.name, sent(allowed(rpc, talk)), metadata)
            tried("said with a mark in metadata")
    path = "/social.v1.UsersService/LogIn"
    broken = [
        Sent(f"/{MARK}", framed(b"")), Sent(path, framed(b""), {"grpc-timeout": MARK}),
        Sent(path, framed(b""), {"content-type": MARK}), Sent(path, MARK.encode(), {"x": MARK}),
        Sent(path, framed(MARK.encode(), flag=1), {"grpc-encoding": MARK}),
        Sent(path, framed(b""), {"user-agent": MARK, "x-bin": f"%{MARK}"}),
    ]  # fmt: skip
    await send_all(talk.millrace.installation.grpc_address, broken)


async def test_a_failing_store_tells_nothing(talk: Talk) -> None:
    """All connections to the database break while marked writes are under way."""
    await talk.renew()
    request = users_pb2.UpdateProfileRequest(display_name=MARK, bio=f"{MARK} {FORGED}")
    dsn = talk.millrace.settings.postgres_dsn
    for _ in range(5):
        connection = await asyncpg.connect(dsn)
        request.request_id = str(uuid.uuid4())
        running_calls = [
            asyncio.create_task(talk.say("UpdateProfile", [request.SerializeToString()]))
            for _ in range(4)
        ]
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.close()
        await asyncio.gather(*running_calls)
        tried("said while a store failed", len(running_calls))


async def test_no_log_and_no_topic_has_the_mark(talk: Talk, stack: StackStatus) -> None:
    """The last of the module: all that was said before is looked for."""
    millrace = talk.millrace
    await millrace.process_all()
    item = media_pb2.GetMediaRequest(media_ids=[talk.media_id])
    shown = await talk.say("GetMedia", [item.SerializeToString()])
    assert MARK.encode() in shown.answers[0]
    log_in = users_pb2.LogInRequest(handle=talk.ben.handle, password=PASSWORD)
    got = users_pb2.LogInResponse.FromString(
        (await talk.say("LogIn", [log_in.SerializeToString()], ())).answers[0]
    )
    talk.tokens += [got.access_token, got.refresh_token]
    needles = [*encodings(MARK.encode()), b"$argon2", PASSWORD.encode()]
    secrets_ = [part for token in talk.tokens for part in token.split(".")[1:] if len(part) > 16]
    needles += [part.encode() for part in secrets_]
    assert len(needles) > 20
    files = [millrace.supervisor.log(process) for process in millrace.names]
    files += sorted((Path(stack.data_dir) / "logs").iterdir())
    for file in files:
        written = await asyncio.to_thread(file.read_bytes)
        found = [needle for needle in needles if needle.lower() in written.lower()]
        assert not found, f"{file.name}: {_around(written, found[0])!r}"
    levels = {line["level"] for line in _lines(millrace) if "level" in line}
    assert "debug" in levels
    records = 0
    async for record in every_record(millrace):
        records += 1
        assert not [needle for needle in needles if needle in record]
    assert records > 100
    print(f"{len(files)} logs and {records} records without the mark")


async def test_postgresql_quotes_no_row_that_it_refuses(data_dir: Path) -> None:
    settings = StackSettings(data_dir, servers=("postgres",), usual_ports=False)
    async with LocalStack(settings) as stack:
        await stack.wait_ready("postgres")
        connection = await asyncpg.connect(str(stack.addresses["postgres_dsn"]))
        await connection.execute("CREATE TABLE words (word text PRIMARY KEY CHECK (word < 'r'))")
        await connection.execute("INSERT INTO words VALUES ($1)", MARK)
        for word in (MARK, f"s{MARK}"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await connection.execute("INSERT INTO words VALUES ($1)", word)
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute(f"SELECT '{MARK}' FROM")
        await connection.close()
        written = stack.log("postgres").read_text()
    assert "violates unique constraint" in written
    assert MARK not in written


def marked(rpc: Rpc, talk: Talk) -> Iterator[list[bytes]]:
    """Calls with the mark in each text, alone and beyond what it may hold."""
    for index, whole in enumerate(allowed(rpc, talk)):
        for holder, one in _texts(whole):
            for text in (MARK, f"{MARK} {FORGED}", LONG * 200, f"{MARK}\0"):
                messages = allowed(rpc, talk)
                _set(messages[index], holder, one, text)
                yield sent(messages)
    first, *others = sent(allowed(rpc, talk))
    yield [MARK.encode(), *others]
    yield [first + b"\x0a" + bytes([len(MARK)]) + MARK.encode() + b"\xff", *others]


def _texts(message: Message) -> Iterator[tuple[str, Any]]:
    """(name of the inner message or "", text field)"""
    for one in message.DESCRIPTOR.fields:
        if one.type == FieldDescriptor.TYPE_STRING:
            yield "", one
        elif one.message_type is not None and not one.is_repeated and message.HasField(one.name):
            for inner in one.message_type.fields:
                if inner.type == FieldDescriptor.TYPE_STRING:
                    yield one.name, inner


def _set(message: Message, holder: str, one: Any, text: str) -> None:
    inner = getattr(message, holder) if holder else message
    if one.is_repeated:
        getattr(inner, one.name).append(text)
    else:
        setattr(inner, one.name, text)


def encodings(mark: bytes) -> list[bytes]:
    """As it is, in hex, and in base64 wherever it may begin."""
    found = [mark, mark.hex().encode()]
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + mark)
        found.append(text[4 if shift else 0 : len(text) // 4 * 4 - 4])
    return found


def _lines(millrace: RunningMillrace) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for process in millrace.names
        for line in millrace.supervisor.log(process).read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
    ]


def _around(written: bytes, needle: bytes) -> bytes:
    at = written.lower().index(needle.lower())
    return written[max(at - 300, 0) : at + 100]


async def every_record(millrace: RunningMillrace) -> AsyncIterator[bytes]:
    """Key, value and headers of everything in this installation's topics, as one text."""
    settings, log = millrace.settings, millrace.stores.log
    parts = [
        TopicPartition(settings.topic_prefix + topic, number)
        for topic in TOPICS
        for number in range(log.partitions_of(topic))
    ]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        left = {part for part, end in ends.items() if end}
        while left:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for one in records:
                    headers = b"".join(name.encode() + value for name, value in one.headers)
                    yield (one.key or b"") + (one.value or b"") + headers
            left = {part for part in left if await consumer.position(part) < ends[part]}
    finally:
        await consumer.stop()
