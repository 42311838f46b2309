"""One RPC as its handler sees it: who calls, how much time is left, what it has written."""

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from millrace.auth.access_token import Caller
from millrace.errors import Bug, OutcomeUnknown
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import TRACE_HEADER, Appended, NewRecord
from millrace.log.position_token import PositionToken
from millrace.relations import View
from services.parts import Parts


class Call:
    """Made by the frame, once an RPC. `trace`: 32 hex digits; `told`: whether processors tell
    it. `token`: what the caller has seen himself do, and what he does in this call.
    """

    __slots__ = (
        "_caller", "_until_s", "_user_id", "method", "parts", "token", "told", "trace",
        "wrote",
    )  # fmt: skip

    def __init__(
        self,
        parts: Parts,
        method: str,
        trace: str,
        caller: Caller | None,
        token: PositionToken,
        until_s: float,
        *,
        told: bool = False,
    ) -> None:
        self.parts = parts
        self.method = method
        self.trace = trace
        self.told = told
        self.token = token
        self.wrote = False
        self._caller = caller
        self._user_id: int | None = caller.user_id if caller else None
        self._until_s = until_s

    @property
    def caller(self) -> Caller:
        """Whom the access token names. A Bug in an RPC that is open to all."""
        if self._caller is None:
            raise Bug(f"{self.method} has no caller")
        return self._caller

    @property
    def user_id(self) -> int:
        """Who acts: the caller, or whom `acts_as` named."""
        if self._user_id is None:
            raise Bug(f"{self.method} acts for nobody")
        return self._user_id

    def acts_as(self, user_id: int) -> None:
        """For RPCs that are open to all: from now on this user writes."""
        self._user_id = user_id

    def left_s(self) -> float:
        """Seconds until the RPC ends, whatever it does then."""
        return max(self._until_s - asyncio.get_running_loop().time(), 0.0)

    async def append(
        self, topic: str, key: bytes, event: Message | None, *, partition: int | None = None
    ) -> Appended:
        """Write one event (None ends a key of a compacted topic), in this call's trace if told.

        The answer's position token covers it. Raises OutcomeUnknown.
        """
        appended = await self.parts.log.append(
            topic,
            key,
            event.SerializeToString() if event is not None else None,
            partition=partition,
            headers={TRACE_HEADER: self.trace.encode()} if self.told else None,
            timeout_s=min(self.left_s(), self.parts.settings.append_timeout_s),
        )
        self.covers(appended)
        return appended

    async def append_many(self, topic: str, records: Sequence[NewRecord]) -> None:
        """Write many events, in this order within a partition and in nobody's trace.

        The answer's position token covers them. Raises OutcomeUnknown: some are in the log, some
        not.
        """
        last = await self.parts.log.append_many(topic, records)
        for partition, number in last.items():
            self.covers(Appended(topic, partition, number))

    def covers(self, appended: Appended) -> None:
        """From now on the answer's position token covers this event."""
        own_partition = partition_of_owner(self.user_id, self.parts.log.partitions)
        self.token = self.token.after(appended, own_partition)
        self.wrote = True

    async def stale(self, *views: View) -> bool:
        """Wait for what the caller's token asks of these views; whether one is still behind.

        Without a token nothing is asked, so nothing is stale. Raises FailedPrecondition for a
        token from beyond the log's end.
        """
        positions = self.parts.positions
        unknown = [
            (view.name, needs)
            for view in views
            if not positions.has_covered(view.name, needs := self.token.needs(view.topics))
        ]
        if not unknown:
            return False
        timeout_s = min(self.left_s(), self.parts.settings.token_wait_ms / 1000)
        if all(await asyncio.gather(*(positions.covers(*one, timeout_s) for one in unknown))):
            return False
        await self.parts.future.admit(self.token)
        return True

    async def hidden_everywhere(self, view: View, *appended: Appended) -> bool:
        """For privacy writes: whether the view covers them within `privacy_wait_s`. If not, the
        answer says `pending`.
        """
        needs = {(one.topic, one.partition): one.number for one in appended}
        timeout_s = min(self.left_s(), self.parts.settings.privacy_wait_s)
        return await self.parts.positions.covers(view.name, needs, timeout_s)

    async def applied(self, view: View, *appended: Appended) -> None:
        """Wait until a view has applied what was written, for RPCs that answer then.

        Raises OutcomeUnknown: it is written and will be applied, but not in time for an answer.
        """
        needs = {(one.topic, one.partition): one.number for one in appended}
        timeout_s = min(self.left_s(), self.parts.settings.apply_wait_s)
        if not await self.parts.positions.covers(view.name, needs, timeout_s):
            raise OutcomeUnknown(f"view {view.name} has not applied {needs} in time")
