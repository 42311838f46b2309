"""The bench's own HTTP/2 client finds what gRPC's client finds."""

import asyncio
from collections.abc import Sequence

import grpc

from cli.benches.wire import LOST, UNSENT, Connection, field_of, header_block, literal
from social.v1 import users_pb2 as pb
from tests.serving import Person, World, serving

GET_USERS = "/social.v1.UsersService/GetUsers"
UPDATE = "/social.v1.UsersService/UpdateProfile"


async def ended(
    connection: Connection, path: str, metadata: Sequence[tuple[str, str]], message: bytes
) -> tuple[int, bytes]:
    found: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    block = header_block(path, "there", metadata)
    connection.call(block, message, lambda code, end: found.set_result((code, end)))
    connection.flush()
    async with asyncio.timeout(30):
        return await found


async def connected(world: World) -> Connection:
    host, port = world.address.split(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, host, int(port))
    async with asyncio.timeout(30):
        await connection.ready.wait()
    return connection


def asked(ana: Person) -> bytes:
    return pb.GetUsersRequest(user_ids=[ana.user_id]).SerializeToString()


async def test_statuses_and_positions_are_read_from_the_frames() -> None:
    async with serving(
        grpc_streams_max=7, admission_delay_ms=100, admission_heard_ms=60_000
    ) as world:
        ana = await world.register("ana")
        connection = await connected(world)
        assert connection.calls_max == 7
        signed = [("authorization", f"Bearer {ana.access_token}")]
        assert (await ended(connection, GET_USERS, signed, asked(ana)))[0] == 0
        for path, metadata, message, refused in (
            (GET_USERS, (), asked(ana), grpc.StatusCode.UNAUTHENTICATED),
            (GET_USERS, signed, b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
            ("/social.v1.UsersService/Nothing", signed, b"", grpc.StatusCode.UNIMPLEMENTED),
        ):
            assert (await ended(connection, path, metadata, message))[0] == refused.value[0]
        update = pb.UpdateProfileRequest(request_id=ana_id(), bio="I swim").SerializeToString()
        code, end = await ended(connection, UPDATE, signed, update)
        assert code == 0
        assert len(field_of(b"millrace-position", end)) > 20
        world.server.frame.admission.limit = 0.0
        assert (await ended(connection, GET_USERS, signed, asked(ana)))[0] == 8
        connection.close()


async def test_what_the_server_does_not_allow_is_not_sent() -> None:
    connection = Connection()
    assert (await ended(connection, GET_USERS, (), b""))[0] == UNSENT


async def test_a_lost_connection_ends_its_calls() -> None:
    async with serving() as world:
        connection = await connected(world)
        found: list[int] = []
        connection.call(
            header_block(GET_USERS, "there", ()), b"", lambda code, _: found.append(code)
        )
        connection.connection_lost(None)
        assert found == [LOST]


def test_fields_of_any_length() -> None:
    for size in (0, 1, 126, 127, 128, 300, 20_000):
        block = literal(b"a", b"b") + literal(b"name", b"x" * size) + literal(b"c", b"d")
        assert field_of(b"name", block) == b"x" * size
    assert field_of(b"name", b"") == b""


def ana_id() -> str:
    return "0b7c4f0e-5b1f-4d5c-9f0e-3b7f3f6d2a11"
