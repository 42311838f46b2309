"""Which call counts against which rate, how long its request may take to come, and how many
streams may be open; asked by the frame.

A stream that only waits must not keep a place from others: each user has few, all together have
their own number below that of calls, and one whose client does not send for `stream_idle_max_s`
ends with DEADLINE_EXCEEDED; one whose client does not read for so long is cancelled.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from millrace.auth import names
from millrace.auth.access_token import Caller
from millrace.deadlines import Deadlines, Limit
from millrace.errors import Exhausted, InvalidRequest
from millrace.log.partitioner import key_of
from services.parts import Parts
from services.rpc import Rpc

_CHANGE = "/social.v1.UsersService/ChangePassword"
_LOG_IN = "/social.v1.UsersService/LogIn"
_REGISTER = "/social.v1.UsersService/Register"
_UPLOAD = "/social.v1.MediaService/UploadMedia"
_READS = ("Get", "List", "Watch", "Download")
_FREE: AbstractContextManager[None] = nullcontext()


class Limits:
    """One a process."""

    def __init__(self, parts: Parts, deadlines: Deadlines) -> None:
        settings = parts.settings
        self._deadlines = deadlines
        self._keys = parts.keys
        self._rates = parts.rates
        self._idle_max_s = settings.stream_idle_max_s
        self._streams_max = settings.streams_max
        self._streams_a_user_max = settings.streams_a_user_max
        self._request_wait_s = settings.request_wait_s
        self._arriving_max = settings.grpc_calls_max
        # Calls whose request has not come yet, oldest first.
        self._arriving: dict[Limit, None] = {}
        self._streams = 0
        self._streams_by_user: defaultdict[int, int] = defaultdict(int)

    async def request(self, context: Any) -> bytes:
        """The one request of a call that has no stream of them.

        Raises TimeoutError when it does not come in `request_wait_s`, or is the oldest that more
        than `grpc_calls_max` wait for; InvalidRequest when the client ends without it.
        """
        with self._deadlines.within(self._request_wait_s) as patience:
            self._arriving[patience] = None
            if len(self._arriving) > self._arriving_max:
                oldest = next(iter(self._arriving))
                del self._arriving[oldest]
                oldest.end()
            try:
                request = await context.read()
            finally:
                self._arriving.pop(patience, None)
        if not isinstance(request, bytes):
            raise InvalidRequest("the call ended without a request", reason="REQUEST_MISSING")
        return request

    def address_of(self, peer: str) -> str:
        """Of a new call, which counts from now on. Raises Exhausted."""
        if address := self._rates.address_of(peer):
            self._rates.address_calls.take(address)
        return address

    def admitted(
        self, rpc: Rpc, caller: Caller | None, address: str, request: Any
    ) -> AbstractContextManager[None]:
        """What the handler runs in. Raises Exhausted, also when it is entered."""
        if caller is not None:
            self._rates.user_calls.take(caller.user_id)
            if not rpc.name.startswith(_READS):
                self._rates.user_writes.take(caller.user_id)
            if rpc.takes_stream or rpc.gives_stream:
                return self._place(rpc, caller.user_id)
            if rpc.path == _CHANGE:
                # The old one and, for a repetition that was done already, the new one.
                return self._rates.guess(key_of(caller.user_id), address, passwords=2)
        elif rpc.path == _LOG_IN:
            return self._rates.guess(names.name_key(self._keys, request.handle), address)
        elif rpc.path == _REGISTER and address:
            self._rates.registers.take(address)
        return _FREE

    async def paced(self, sent: AsyncIterator[bytes], user_id: int) -> AsyncIterator[bytes]:
        """What a client streams. Raises TimeoutError when it pauses for too long, Exhausted when
        the user has sent too much.
        """
        messages = aiter(sent)
        while True:
            with self._deadlines.within(self._idle_max_s):
                one = await anext(messages, None)
            if one is None:
                return
            self._rates.stream_bytes.take(user_id, len(one))
            yield one

    async def written(self, context: Any, item: Any) -> None:
        """Write an item of the answer. When the client does not read on, the call is cancelled:
        behind what is not read no status could be sent, either.
        """
        try:
            with self._deadlines.within(self._idle_max_s):
                await context.write(item)
        except TimeoutError:
            raise asyncio.CancelledError from None

    @contextmanager
    def _place(self, rpc: Rpc, user_id: int) -> Iterator[None]:
        if self._streams >= self._streams_max:
            raise Exhausted("too many streams at once: try again", reason="OVERLOADED")
        if self._streams_by_user.get(user_id, 0) >= self._streams_a_user_max:
            raise Exhausted("too many streams of yours are open", reason="TOO_MANY_STREAMS")
        if rpc.path == _UPLOAD:
            self._rates.uploads.take(user_id)
        self._streams += 1
        self._streams_by_user[user_id] += 1
        try:
            yield
        finally:
            self._streams -= 1
            self._streams_by_user[user_id] -= 1
            if not self._streams_by_user[user_id]:
                del self._streams_by_user[user_id]
