"""Users' data keys, opened; and the sealed text of events, opened before they are projected.

A user's data key is in the vault before the first text that it seals is in the log. So when a
key is missing from the view, the view is behind: wait until it covers the vault's end, look
again, and if it is still missing the key was destroyed: the text reads as empty.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from millrace.clock import Clock
from millrace.errors import PoisonEvent, StoreUnavailable
from millrace.log.codec import Event, sealed_of
from millrace.log.partitioner import partition_of_owner
from millrace.log.port import ReadingLog
from millrace.relations.entity import READ_KEYS_MAX
from millrace.stores.port import ViewStore
from millrace.views import vault
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.vault_pb2 import VAULT_KIND_DATA_KEY, VaultSecret

# (record key of the secret, box) -> the secret; raises PoisonEvent for a box of another key.
OpenSecret = Callable[[bytes, bytes], VaultSecret]
# (data key, sealed text) -> the text's bytes; raises PoisonEvent when it does not open.
OpenText = Callable[[bytes, Sealed], bytes]


class DataKeys:
    """Opened data keys of users, the most recently used ones kept in process."""

    def __init__(
        self,
        store: ViewStore,
        log: ReadingLog,
        clock: Clock,
        open_secret: OpenSecret,
        *,
        cached_max: int,
        wait_s: float,
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._open = open_secret
        self._cached_max = cached_max
        self._wait_s = wait_s
        self._cached: OrderedDict[int, bytes] = OrderedDict()

    async def of(self, user_id: int) -> bytes | None:
        return (await self.many([user_id])).get(user_id)

    async def many(self, user_ids: Iterable[int]) -> dict[int, bytes]:
        """Data keys by user; users whose key was destroyed, or who never were, are left out.

        Raises StoreUnavailable while the vault view stays behind the log.
        """
        asked = list(dict.fromkeys(user_ids))
        found = {user_id: self._cached[user_id] for user_id in asked if user_id in self._cached}
        missing = [user_id for user_id in asked if user_id not in found]
        if missing:
            found |= await self._read(missing)
            missing = [user_id for user_id in missing if user_id not in found]
        if missing:
            await self._catch_up(missing)
            found |= await self._read(missing)
        for user_id, key in found.items():
            self._cached[user_id] = key
            self._cached.move_to_end(user_id)
        while len(self._cached) > self._cached_max:
            self._cached.popitem(last=False)
        return found

    async def _read(self, user_ids: Sequence[int]) -> dict[int, bytes]:
        keys = {}
        for start in range(0, len(user_ids), READ_KEYS_MAX):
            some = user_ids[start : start + READ_KEYS_MAX]
            boxes = await vault.boxes(
                self._store, [(user_id, VAULT_KIND_DATA_KEY, b"") for user_id in some]
            )
            for (user_id, _kind, _family), box in boxes.items():
                secret = self._open(vault.vault_key(user_id, VAULT_KIND_DATA_KEY), box)
                keys[user_id] = secret.data_key
        return keys

    async def _catch_up(self, user_ids: Sequence[int]) -> None:
        """Wait until the vault view covers what its topic holds for these users now."""
        ends = await self._log.ends("vault")
        needed = {partition_of_owner(user_id, len(ends)) for user_id in user_ids}
        deadline = self._clock.monotonic_s() + self._wait_s
        while True:
            stored = await self._store.positions("vault")
            behind = [
                partition
                for partition in needed
                if ("vault", partition) not in stored
                or stored["vault", partition].position < ends[partition]
            ]
            if not behind:
                return
            if self._clock.monotonic_s() > deadline:
                raise StoreUnavailable("the vault view is behind the log")
            await self._clock.sleep(0.01)


class TextOpener:
    """Opens what events carry sealed, a batch at a time."""

    def __init__(self, keys: DataKeys, open_text: OpenText) -> None:
        self._keys = keys
        self._open = open_text

    async def open(self, events: Sequence[Event]) -> dict[int, PoisonEvent]:
        """Sets `event.text` of each. Returns what did not open: index of the event -> why."""
        boxes = [
            (index, box)
            for index, event in enumerate(events)
            if (box := sealed_of(event.message)) is not None
        ]
        if not boxes:
            return {}
        keys = await self._keys.many(box.owner_id for _, box in boxes)
        poison = {}
        for index, box in boxes:
            key = keys.get(box.owner_id)
            try:
                events[index].text = b"" if key is None else self._open(key, box)
            except PoisonEvent as error:
                poison[index] = error
        return poison
