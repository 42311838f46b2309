"""Data keys while the vault's view is behind, and when they are destroyed."""

import asyncio

import pytest

from millrace.clock import ManualClock
from millrace.errors import StoreUnavailable
from millrace.log.codec import decode
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import partition_of_owner
from millrace.stores.changes import Batch, Move
from millrace.stores.memory import MemoryStore
from millrace.views import vault
from millrace.views.data_keys import DataKeys
from social.log.v1.vault_pb2 import VAULT_KIND_DATA_KEY, VaultKey, VaultRecord, VaultSecret

PARTITIONS = 2
WAIT_S = 5.0


class Vault:
    """The topic and its view, which follows only when it is told to."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(PARTITIONS, self.clock)
        self.store = MemoryStore()
        self.keys = DataKeys(
            self.store,
            self.log,
            self.clock,
            lambda _, box: VaultSecret.FromString(box),
            cached_max=2,
            wait_s=WAIT_S,
        )

    async def open(self) -> None:
        await self.store.open_view(vault.VIEW.schema, {"vault": PARTITIONS}, log_id=1)

    async def put(self, user_id: int, key: bytes) -> None:
        """An empty key destroys."""
        box = VaultSecret(data_key=key).SerializeToString() if key else b""
        named = VaultKey(user_id=user_id, kind=VAULT_KIND_DATA_KEY)
        record = VaultRecord(key=named, box=box).SerializeToString() if key else None
        await self.log.append(
            "vault",
            vault.vault_key(user_id, VAULT_KIND_DATA_KEY),
            record,
            partition=partition_of_owner(user_id, PARTITIONS),
        )

    async def follow(self) -> None:
        for partition in range(PARTITIONS):
            at = (await self.store.positions("vault"))["vault", partition].position
            for record in self.log.after("vault", partition, at, 100):
                move = Move("vault", partition, record.number - 1, record.number)
                changes = list(vault.project(decode(record)))
                await self.store.apply(vault.VIEW.schema, Batch("vault", (move,), changes))


@pytest.fixture
async def world() -> Vault:
    made = Vault()
    await made.open()
    return made


async def test_a_key_that_the_view_has_not_yet_is_waited_for(world: Vault) -> None:
    await world.put(1, b"first")
    await world.put(2, b"second")
    asked = asyncio.create_task(world.keys.many([1, 2, 3]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asked.done()
    await world.follow()
    assert await asked == {1: b"first", 2: b"second"}


async def test_a_destroyed_key_is_none_and_waits_for_nothing(world: Vault) -> None:
    await world.put(1, b"first")
    await world.put(1, b"")
    await world.follow()
    before_s = world.clock.monotonic_s()
    assert await world.keys.of(1) is None
    assert world.clock.monotonic_s() == before_s


async def test_a_view_that_stays_behind_decides_nothing(world: Vault) -> None:
    await world.put(1, b"first")
    with pytest.raises(StoreUnavailable):
        await world.keys.of(1)
    assert world.clock.monotonic_s() >= WAIT_S
    await world.follow()
    assert await world.keys.of(1) == b"first"


async def test_more_keys_than_are_kept(world: Vault) -> None:
    for user_id in range(1, 8):
        await world.put(user_id, b"key %d" % user_id)
    await world.follow()
    assert len(await world.keys.many(range(1, 8))) == 7
    assert await world.keys.of(1) == b"key 1"
