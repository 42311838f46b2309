"""Topic `control`: which log this is, the epochs of views, and who has which block of user ids.

Read from its start once, then followed: a view's state of its own, small enough for memory (one
record a block of user ids and a raised epoch).
"""

import asyncio
import hashlib
import hmac
from collections import deque
from typing import NamedTuple

from google.protobuf.message import DecodeError

from millrace.errors import FailedPrecondition, StoreUnavailable
from millrace.log.port import Log, LogReader, ReadingLog, Record
from social.log.v1.control_pb2 import ControlEvent, EpochRaised

TOPIC = "control"
_BATCH_RECORDS = 5_000
_WAIT_S = 0.2
_CATCH_UP_TIMEOUT_S = 10.0
_LOG_ID_BITS = (1 << 63) - 1


class LogIdentity(NamedTuple):
    """`log_id` names the log in positions and tokens, 63 bits; the seed is a secret."""

    seed: bytes
    log_id: int
    user_id_block: int

    def key(self, purpose: str) -> bytes:
        """A key for one purpose, the same for ever: never rotated, because the log is not."""
        return hmac.digest(self.seed, b"millrace " + purpose.encode(), "sha256")


def log_id_of(seed: bytes) -> int:
    return int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") & _LOG_ID_BITS


async def read_identity(log: ReadingLog) -> LogIdentity:
    """Raises FailedPrecondition when the log was not started: `millrace.log.create` does."""
    control = Control(log)
    try:
        await control.catch_up()
        return control.identity
    finally:
        await control.close()


class Control:
    """What the topic says, as far as it was read. One a process; methods may run side by side."""

    def __init__(self, log: ReadingLog) -> None:
        self._log = log
        self._reader: LogReader | None = None
        self._reading = asyncio.Lock()
        self._identity: LogIdentity | None = None
        self._won: dict[bytes, deque[int]] = {}
        self.position = 0
        self.epochs: dict[str, int] = {}
        # The lowest block of user ids that nobody has claimed. Block 0 begins with id 0.
        self.free_block = 0

    @property
    def identity(self) -> LogIdentity:
        if self._identity is None:
            raise FailedPrecondition("the log was not started", reason="LOG_NOT_STARTED")
        return self._identity

    def epoch(self, view: str) -> int:
        """The newest epoch of a view; 1 for one that never went back."""
        return self.epochs.get(view, 1)

    def blocks_won(self, claimant: bytes) -> deque[int]:
        """Filled with the blocks that this claimant wins from now on; the caller takes them."""
        return self._won.setdefault(claimant, deque())

    async def catch_up(self, number: int | None = None) -> None:
        """Read up to a number, or to the topic's end as it is now. Raises StoreUnavailable."""
        if number is None:
            (number,) = await self._log.ends(TOPIC)
        try:
            async with asyncio.timeout(_CATCH_UP_TIMEOUT_S):
                async with self._reading:
                    if self._reader is None:
                        self._reader = self._log.reader({(TOPIC, 0): self.position})
                    while self.position < number:
                        for record in await self._reader.batch(_BATCH_RECORDS, _WAIT_S):
                            self._take(record)
        except TimeoutError as error:
            raise StoreUnavailable("control was not read in time") from error

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.close()

    def _take(self, record: Record) -> None:
        self.position = record.number
        event = ControlEvent()
        try:
            event.ParseFromString(record.value or b"")
        except DecodeError:
            # Void: it can name neither a block nor an epoch.
            return
        kind = event.WhichOneof("event")
        if kind == "log_started" and self._identity is None:
            seed = event.log_started.seed
            self._identity = LogIdentity(seed, log_id_of(seed), event.log_started.user_id_block)
        elif kind == "user_ids_leased" and event.user_ids_leased.block >= self.free_block:
            self.free_block = event.user_ids_leased.block + 1
            if (won := self._won.get(event.user_ids_leased.claimant)) is not None:
                won.append(event.user_ids_leased.block)
        elif kind == "epoch_raised":
            raised = event.epoch_raised
            self.epochs[raised.view] = max(self.epoch(raised.view), raised.epoch)


async def raise_epoch(control: Control, log: Log, view: str) -> int:
    """One more epoch for a view, known to `control` when this returns."""
    await control.catch_up()
    epoch = control.epoch(view) + 1
    event = ControlEvent(epoch_raised=EpochRaised(view=view, epoch=epoch))
    appended = await log.append(TOPIC, view.encode(), event.SerializeToString())
    await control.catch_up(appended.number)
    return epoch
