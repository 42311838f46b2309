"""One RPC as its handler sees it: who calls, how much time is left, what it has written."""

import asyncio

from google.protobuf.message import Message

from millrace.auth.access_token import Caller
from millrace.errors import Bug, OutcomeUnknown
from millrace.log.port import TRACE_HEADER, Appended
from millrace.relations import View
from services.parts import Parts


class Call:
    """Made by the frame, once an RPC. `trace`: 32 hex digits, empty at none."""

    __slots__ = ("_caller", "_until_s", "_written", "method", "parts", "trace")

    def __init__(
        self, parts: Parts, method: str, trace: str, caller: Caller | None, until_s: float
    ) -> None:
        self.parts = parts
        self.method = method
        self.trace = trace
        self._caller = caller
        self._until_s = until_s
        self._written: list[Appended] = []

    @property
    def caller(self) -> Caller:
        """Whom the access token names. A Bug in an RPC that is open to all."""
        if self._caller is None:
            raise Bug(f"{self.method} has no caller")
        return self._caller

    @property
    def user_id(self) -> int:
        return self.caller.user_id

    def left_s(self) -> float:
        """Seconds until the RPC ends, whatever it does then."""
        return max(self._until_s - asyncio.get_running_loop().time(), 0.0)

    async def append(
        self, topic: str, key: bytes, event: Message | None, *, partition: int | None = None
    ) -> Appended:
        """Write one event (None ends a key of a compacted topic) in this call's trace.

        The answer's position token will cover it. Raises OutcomeUnknown.
        """
        appended = await self.parts.log.append(
            topic,
            key,
            event.SerializeToString() if event is not None else None,
            partition=partition,
            headers={TRACE_HEADER: self.trace.encode()},
            timeout_s=min(self.left_s(), self.parts.settings.append_timeout_s),
        )
        self._written.append(appended)
        return appended

    async def stale(self, *views: View) -> bool:
        """Wait for what the caller's token asks of these views; whether they are still behind.

        Without a token nothing is asked, so nothing is stale.
        """
        return False

    async def applied(self, view: View, *appended: Appended) -> None:
        """Wait until a view has applied what was written, for RPCs that answer then.

        Raises OutcomeUnknown: it is written and will be applied, but not in time for an answer.
        """
        needs = {(one.topic, one.partition): one.number for one in appended}
        timeout_s = min(self.left_s(), self.parts.settings.apply_wait_s)
        if not await self.parts.positions.covers(view.name, needs, timeout_s):
            raise OutcomeUnknown(f"view {view.name} has not applied {needs} in time")
