"""Below gRPC: content types, lengths that lie, bombs, half messages, headers nobody sends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services import server
from social.v1 import users_pb2
from tests.hostile import PICTURE, Attack, Footprint, attacked
from tests.hostile_count import tried
from tests.hostile_http2 import Sent, framed, gzip_bomb, send_all
from tests.serving import serving

LOG_IN = "/social.v1.UsersService/LogIn"
UPLOAD = "/social.v1.MediaService/UploadMedia"
MIB = 1 << 20
# OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED,
# UNAUTHENTICATED; INTERNAL is gRPC's own word for bytes that break its framing.
CODES = {0, 1, 3, 4, 8, 12, 16}
BROKEN_FRAMING = 13
SOCKET_BYTES = (
    b"",
    b"\0" * 100,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\xff" * 10_000,
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
async def attack() -> AsyncIterator[Attack]:
    async with attacked() as attack:
        yield attack


@pytest.fixture
def log_in(attack: Attack) -> bytes:
    request = users_pb2.LogInRequest(handle=attack.actor.handle, password="another horse")
    return request.SerializeToString()


async def survived(attack: Attack, kind: str, tries: dict[str, Sent]) -> dict[str, int | None]:
    """Each try has ended, with a code that a client may see or without any."""
    async with attack.nothing_written():
        ended = await send_all(attack.world.address, list(tries.values()))
    tried(kind, len(tries))
    for name, one in zip(tries, ended, strict=True):
        assert (one.error == "no answer") <= tries[name].silent, name
        assert "Traceback" not in one.message, name
        assert ".py" not in one.message, name
        assert one.code in CODES | {BROKEN_FRAMING, None}, f"{name}: {one}"
    return {name: one.code for name, one in zip(tries, ended, strict=True)}


async def test_content_types_methods_and_paths(attack: Attack, log_in: bytes) -> None:
    types = (
        "text/html", "application/json", "application/grpc-web", "application/grpc+json",
        "application/grpcx", "application/grpc; charset=x", "APPLICATION/GRPC", "x" * 5000, "",
        "multipart/form-data", "application/grpc+proto",
    )  # fmt: skip
    paths = (
        "/", "//", "*", "/social.v1.UsersService", "/social.v1.UsersService/", LOG_IN + "/",
        LOG_IN.lower(), "/social.v1.UsersService//LogIn", LOG_IN + "?x=1", "/" + "x" * 5000,
        "/social.v1.UsersService/%4cogIn", "/../" + LOG_IN, "social.v1.UsersService/LogIn",
    )  # fmt: skip
    body = framed(log_in)
    tries = {f"type {one}": Sent(LOG_IN, body, {"content-type": one}) for one in types}
    tries |= {f"path {one}": Sent(one, body) for one in paths}
    tries |= {
        f"method {one}": Sent(LOG_IN, body, {":method": one})
        for one in ("GET", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "X")
    }
    tries["no te"] = Sent(LOG_IN, body, {"te": ""})
    tries["te: gzip"] = Sent(LOG_IN, body, {"te": "gzip"})
    await survived(attack, "content types, methods, paths", tries)


async def test_lengths_that_lie_and_streams_that_break(attack: Attack, log_in: bytes) -> None:
    tries = {
        "nothing": Sent(LOG_IN, silent=True),
        "an empty message": Sent(LOG_IN, framed(b"")),
        "three bytes of a frame": Sent(LOG_IN, b"\0\0\0", silent=True),
        "longer than sent": Sent(LOG_IN, framed(log_in, length=len(log_in) + 100), silent=True),
        "shorter than sent": Sent(LOG_IN, framed(log_in, length=3)),
        "4 GiB announced": Sent(LOG_IN, framed(log_in, length=2**32 - 1)),
        "2 GiB announced": Sent(LOG_IN, framed(log_in, length=2**31)),
        "two messages": Sent(LOG_IN, framed(log_in) * 2),
        "a thousand messages": Sent(LOG_IN, framed(log_in) * 1000),
        "flag 2": Sent(LOG_IN, framed(log_in, flag=2)),
        "flag 255": Sent(LOG_IN, framed(log_in, flag=255)),
        "no frame": Sent(LOG_IN, b"\xff" * 1000),
        "cut at once": Sent(LOG_IN, cut=True),
        "cut in a message": Sent(LOG_IN, framed(log_in, length=1000), cut=True),
        "cut behind a message": Sent(LOG_IN, framed(log_in), cut=True),
    }
    codes = await survived(attack, "lengths that lie, streams cut", tries)
    assert codes["2 GiB announced"] == codes["4 GiB announced"] == 8


async def test_a_bomb_inflates_to_no_more_than_a_message(attack: Attack, log_in: bytes) -> None:
    bomb = gzip_bomb(1024)
    assert len(bomb) < 2 * MIB
    encoded = {"grpc-encoding": "gzip"}
    before = Footprint()
    tries = {
        "a bomb": Sent(LOG_IN, framed(bomb, flag=1), encoded),
        "a bomb and more": Sent(UPLOAD, framed(bomb, flag=1) * 3, encoded),
        "no gzip": Sent(LOG_IN, framed(log_in, flag=1), encoded),
        "no deflate": Sent(LOG_IN, framed(bomb, flag=1), {"grpc-encoding": "deflate"}),
        "compressed and not said": Sent(LOG_IN, framed(bomb, flag=1)),
        "an encoding nobody knows": Sent(LOG_IN, framed(bomb, flag=1), {"grpc-encoding": "br"}),
        "within the limit": Sent(LOG_IN, framed(gzip_bomb(1), flag=1), encoded),
    }
    codes = await survived(attack, "compressed messages", tries)
    assert (codes["a bomb"], codes["within the limit"]) == (8, 3)
    assert Footprint().memory_bytes < before.memory_bytes + 64 * MIB


async def test_headers_nobody_sends(attack: Attack, log_in: bytes) -> None:
    timeouts = ("0n", "0S", "-1S", "99999999H", "999999999999S", "1", "S", "1x", "1 S", "", "1e9S")
    body = framed(log_in)
    tries = {f"timeout {one}": Sent(LOG_IN, body, {"grpc-timeout": one}) for one in timeouts}
    strange: dict[str, dict[str, object]] = {
        "no base64": {"x-bin": "%%%"},
        "much binary": {"x-bin": ["AAAA"] * 500},
        "many": {f"x-{number}": "y" for number in range(200)},
        "a long name": {"x" * 15_000: "y"},
        "status details": {"grpc-status-details-bin": "AAAA"},
        "a status": {"grpc-status": "0"},
        "a position": {"millrace-position": ["x"] * 200},
        "authorizations": {"authorization": ["Bearer x", "Bearer y"]},
        "a trace": {"traceparent": "00-" + "g" * 32 + "-x-01"},
        "a user agent": {"user-agent": "%n%s{}" * 1000},
        "an address of another": {"x-forwarded-for": "127.0.0.1", ":authority": "evil:1"},
        "accepts": {"grpc-accept-encoding": ",,,\x7f,gzip;q=2"},
    }
    tries |= {name: Sent(LOG_IN, body, headers) for name, headers in strange.items()}
    await survived(attack, "headers", tries)


async def test_what_is_no_http_at_all(attack: Attack) -> None:
    """Bytes on a socket, left open for a while or cut: the server goes on."""
    host, port = attack.world.address.split(":")
    async with attack.nothing_written():
        opened = []
        for sent in [*SOCKET_BYTES, *(PREFACE + one for one in SOCKET_BYTES), PREFACE[:10]]:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            opened.append(writer)
            tried("bytes that are no HTTP/2")
        await attack.others_are_served()
        for writer in opened:
            writer.close()
    await attack.publish(attack.actor, PICTURE)


async def test_who_never_acknowledges_our_settings_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then gRPC would take 16 MiB of metadata with every call."""
    monkeypatch.setattr(server, "SETTINGS_ACKNOWLEDGED_MS_MAX", 100)
    async with serving() as world:
        host, port = world.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + b"\0\0\0\4\0\0\0\0\0")
        async with asyncio.timeout(10):
            assert b"settings_timeout" in await reader.read()
        writer.close()
        await world.register("ana")
    tried("settings never acknowledged")
