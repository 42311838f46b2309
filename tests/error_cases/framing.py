"""Cases below gRPC: what its libraries never send."""

import grpc
import pytest

from tests.error_cases.register import case
from tests.hostile_http2 import Sent, framed, send_all
from tests.serving import Person, Refusal, World


@case("Headers or a compression that gRPC cannot read")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    path = "/social.v1.UsersService/LogIn"
    tries = [
        Sent(path, framed(b""), {"grpc-timeout": "soon"}),
        Sent(path, framed(b"no gzip", flag=1), {"grpc-encoding": "gzip"}),
    ]
    ended = await send_all(world.address, tries)
    (code,) = {one.code for one in ended}
    refused = next(one for one in grpc.StatusCode if one.value[0] == code)
    return Refusal(refused, ended[0].message, "", "", (), None)
