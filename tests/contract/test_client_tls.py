"""The client through TLS, as behind a proxy that has it."""

import datetime
import ipaddress
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from millrace.client import Client
from millrace.errors import StoreUnavailable
from social.v1 import users_pb2 as pb
from social.v1 import users_pb2_grpc

HOST = "127.0.0.1"


class Users(users_pb2_grpc.UsersServiceServicer):
    async def LogIn(self, request: pb.LogInRequest, context: Any) -> pb.LogInResponse:  # noqa: N802
        return pb.LogInResponse(user_id=7, access_token="a", refresh_token="r", expires_in_s=900)


def key_and_certificate() -> tuple[bytes, bytes]:
    """Self-signed, for loopback."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(pem)


async def test_credentials_open_a_connection_with_tls_and_nothing_else_does() -> None:
    private, certificate = key_and_certificate()
    server = grpc.aio.server()
    users_pb2_grpc.add_UsersServiceServicer_to_server(Users(), server)
    port = server.add_secure_port(
        f"{HOST}:0", grpc.ssl_server_credentials([(private, certificate)])
    )
    await server.start()
    address = f"{HOST}:{port}"
    trusted = grpc.ssl_channel_credentials(root_certificates=certificate)
    async with Client(address, connections=1, credentials=trusted) as client:
        assert (await client.log_in("ana", "correct horse")).user_id == 7
    for others in (None, grpc.ssl_channel_credentials(key_and_certificate()[1])):
        async with Client(address, connections=1, deadline_s=0.5, credentials=others) as client:
            with pytest.raises(StoreUnavailable):
                await client.log_in("ana", "correct horse")
    await server.stop(None)
