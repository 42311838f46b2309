"""Cases below gRPC: what its libraries never send."""

from typing import Any

import grpc
import pytest

from tests.error_cases.register import case
from tests.hostile_http2 import Sent, framed, send_all
from tests.serving import Person, Refusal, World, refusal

_LOG_IN = "/social.v1.UsersService/LogIn"


@case("A unary call whose request does not come")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    channel: Any = world.channel
    call = channel.stream_unary(_LOG_IN)()
    return await refusal(call)


@case("A unary call that ends without a request")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    channel: Any = world.channel
    call = channel.stream_unary(_LOG_IN)()
    await call.done_writing()
    return await refusal(call)


@case("Headers or a compression that gRPC cannot read")
async def _(world: World, _ana: Person, _: pytest.MonkeyPatch) -> Refusal:
    tries = [
        Sent(_LOG_IN, framed(b""), {"grpc-timeout": "soon"}),
        Sent(_LOG_IN, framed(b"no gzip", flag=1), {"grpc-encoding": "gzip"}),
    ]
    ended = await send_all(world.address, tries)
    (code,) = {one.code for one in ended}
    refused = next(one for one in grpc.StatusCode if one.value[0] == code)
    return Refusal(refused, ended[0].message, "", "", (), None)
