"""How long a call waits before this process hears it: found out by calling itself.

Calls that gRPC has received and no handler has seen yet wait where Python cannot look. So an
RPC that is none knocks, at one acceptor after the other, once an `admission_interval_ms`; the
time until it is refused is what any refusal takes (grpc.aio 1.85: docs/adr/admission.md).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import grpc

from services.admission import Admission

_NOBODY = "/millrace.Nobody/Knock"
_TIMEOUT_S = 5.0


class Knocking:
    """`addresses`: of this process's acceptors, one each."""

    def __init__(self, admission: Admission, addresses: Sequence[str], interval_s: float) -> None:
        options: Any = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(address, options=options) for address in addresses
        ]
        self._admission = admission
        self._interval_s = interval_s
        self._task = asyncio.create_task(self._knock())

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def _knock(self) -> None:
        doors: list[Any] = [channel.unary_unary(_NOBODY) for channel in self._channels]
        while True:
            for door in doors:
                self._admission.knocked()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await door(b"", timeout=_TIMEOUT_S)
                self._admission.heard()
                await asyncio.sleep(self._interval_s)
