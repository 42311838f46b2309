"""Dense user ids: a process leases blocks of them, so that sets of users stay small bitmaps.

A block belongs to whoever claims it first in topic `control`. What a process had left of its
block when it ends is never handed out; id 0 neither.
"""

import asyncio
import secrets

from millrace.errors import StoreUnavailable
from millrace.ids import UserId
from millrace.log.control import TOPIC, Control
from millrace.log.port import Log
from social.log.v1.control_pb2 import ControlEvent, UserIdsLeased

# Each lost claim means that another process won one: so many in a row is another fault.
_CLAIMS_MAX = 100


class UserIds:
    """One a process, many at once: no id is handed out twice."""

    def __init__(self, log: Log, control: Control) -> None:
        self._log = log
        self._control = control
        self._claimant = secrets.token_bytes(16)
        self._won = control.blocks_won(self._claimant)
        self._leasing = asyncio.Lock()
        self._next = 0
        self._end = 0

    async def next_id(self) -> UserId:
        """Raises StoreUnavailable when a block is needed and the log does not answer."""
        while self._next == self._end:
            await self._lease()
        self._next += 1
        return UserId(self._next - 1)

    async def _lease(self) -> None:
        async with self._leasing:
            if self._next < self._end:
                return
            # Also finds a claim of ours whose acknowledgement was lost.
            await self._control.catch_up()
            for _ in range(_CLAIMS_MAX):
                if self._won:
                    self._begin(self._won.popleft())
                    return
                await self._claim(self._control.free_block)
        raise StoreUnavailable("no block of user ids could be claimed")

    def _begin(self, block: int) -> None:
        size = self._control.identity.user_id_block
        self._next = max(block * size, 1)
        self._end = (block + 1) * size

    async def _claim(self, block: int) -> None:
        leased = UserIdsLeased(block=block, claimant=self._claimant)
        event = ControlEvent(user_ids_leased=leased)
        appended = await self._log.append(TOPIC, self._claimant, event.SerializeToString())
        await self._control.catch_up(appended.number)
