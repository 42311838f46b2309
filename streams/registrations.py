"""Finishes what a service began and did not live to finish: registrations, and renames.

A claim in `names` that is old enough and has won is completed by UserRegistered, if the user is
not there; it carries the text, sealed. A claim that lost leaves secrets of a user who never was:
they are ended. All of it may be done twice: the first UserRegistered of a user counts. A claim of
a rename is finished by `streams/renames.py`; its user stands, so his secrets are left alone.

Keeps a position of its own like a view, without tables. Not: retries of clients, which complete
their claim themselves (`services/registration.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.clock import Clock
from millrace.errors import Bug, PoisonEvent, PositionMoved, StoreUnavailable
from millrace.log.codec import decode
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Appended, Log, LogReader, Record, TopicPartition
from millrace.observe import logs, metrics
from millrace.settings import Settings
from millrace.stores.changes import Batch, Move
from millrace.stores.port import ViewStore
from millrace.stores.schema import ViewSchema
from millrace.views import users, vault
from millrace.views.users import NAMES, USERS
from social.log.v1.names_pb2 import NameClaimed
from social.log.v1.users_pb2 import UserRegistered, UsersEvent
from social.log.v1.vault_pb2 import VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD
from streams import renames
from streams.process import StreamParts

SCHEMA = ViewSchema("registrations", ("names",))
RETRY_S = 0.2
_POLL_S = 0.05

logger = logs.logger("streams.registrations")


@dataclass(slots=True)
class Registrations:
    """Takes stores, log and clock as arguments, so that a simulator can drive it."""

    store: ViewStore
    log: Log
    clock: Clock
    settings: Settings
    at: dict[TopicPartition, int] = field(default_factory=dict)

    async def open(self, log_id: int) -> None:
        partitions = {topic: self.log.partitions_of(topic) for topic in SCHEMA.topics}
        await self.store.open_view(SCHEMA, partitions, log_id)

    async def start_positions(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to go on, as stored."""
        stored = await self.store.positions(SCHEMA.view)
        for partition in partitions:
            if partition not in stored:
                raise Bug(f"{SCHEMA.view} has no position for {partition}")
            self.at[partition] = stored[partition].position
        return {partition: self.at[partition] for partition in partitions}

    async def step(self, reader: LogReader, *, wait_s: float) -> int:
        """Look at some claims once they are old enough; returns how many there were.

        Raises StoreUnavailable: the same claims come again after `start_positions`.
        """
        records = await reader.batch(self.settings.registration_batch_claims, wait_s)
        records = [record for record in records if self._is_new(record)]
        if not records:
            return 0
        await self._wait_until_old(records)
        needs = await self._needs(records)
        epochs = await self._covered(needs)
        claims = [
            (claim, record.number) for record in records if (claim := _claim(record)) is not None
        ]
        nobodies = await self._finish(
            [claim for claim, _ in claims if not claim.frees_claim_number]
        )

        async def still() -> None:
            if await self._covered(needs) != epochs:
                # A restore, a promotion: who seemed to be nobody may be somebody, what seemed to
                # be a dead letter may hold a name, and what is ended or passed over is so for good.
                raise StoreUnavailable("view users went back while it was read")

        for claim, number in claims:
            if claim.frees_claim_number:
                await renames.finish(self.store, self.log, self._applied, still, claim, number)
        await still()
        for user_id in nobodies:
            await self._forget(user_id)
        try:
            await self._move(records)
        except PositionMoved:
            touched = list(dict.fromkeys((one.topic, one.partition) for one in records))
            for (topic, partition), position in (await self.start_positions(touched)).items():
                reader.seek(topic, partition, position)
        return len(records)

    def _is_new(self, record: Record) -> bool:
        at = self.at.get((record.topic, record.partition))
        return at is not None and record.number > at

    async def _wait_until_old(self, records: Sequence[Record]) -> None:
        """Until then the service that claimed is most likely still at it."""
        newest_ms = max(record.appended_ms for record in records)
        old_ms = newest_ms + self.settings.registration_complete_after_s * 1000
        while (left_ms := old_ms - self.clock.now_ms()) > 0:
            await self.clock.sleep(min(left_ms / 1000, 1.0))

    async def _needs(self, records: Sequence[Record]) -> dict[TopicPartition, int]:
        """What view users has to cover: these claims, and what registrations the log has now.

        Only then a missing user is missing: his secrets may be ended.
        """
        needs: dict[TopicPartition, int] = {
            ("users", partition): number
            for partition, number in enumerate(await self.log.ends("users"))
        }
        for record in records:
            needs[record.topic, record.partition] = record.number
        return needs

    async def _applied(self, appended: Appended) -> None:
        await self._covered({(appended.topic, appended.partition): appended.number})

    async def _covered(self, needs: Mapping[TopicPartition, int]) -> set[int]:
        """The epochs of view users once it covers these."""
        while True:
            stored = await self.store.positions(users.VIEW.name)
            if all(key in stored and stored[key].position >= needs[key] for key in needs):
                return {row.epoch for row in stored.values()}
            await self.clock.sleep(_POLL_S)

    async def _finish(self, claims: Sequence[NameClaimed]) -> list[int]:
        """Whose claims lost: users who never were."""
        nobodies = []
        keys = list({(claim.name_key,): None for claim in claims})
        held = await NAMES.get_many_ended_too(self.store, keys)
        holders = await users.by_name(self.store, {claim.name_key for claim in claims})
        there = await USERS.get_many(self.store, list({(claim.user_id,): None for claim in claims}))
        for claim in claims:
            holder = holders.get(claim.name_key)
            # Not even an ended row: the view has put the claim aside as a dead letter.
            if (claim.user_id,) in there or (claim.name_key,) not in held:
                continue
            # A user who is not there frees no name: a free one was another's.
            if holder is not None and holder.user_id == claim.user_id:
                await self._complete(claim, holder.claim_number)
            else:
                nobodies.append(claim.user_id)
        return nobodies

    async def _complete(self, claim: NameClaimed, claim_number: int) -> None:
        registered = UserRegistered(
            user_id=claim.user_id,
            at_ms=claim.at_ms,
            name_key=claim.name_key,
            claim_number=claim_number,
            sealed=claim.sealed,
        )
        event = UsersEvent(registered=registered)
        await self.log.append("users", key_of(claim.user_id), event.SerializeToString())
        metrics.REGISTRATIONS_COMPLETED.inc()
        logger.info("completed", user_id=claim.user_id)

    async def _forget(self, user_id: int) -> None:
        kinds = (VAULT_KIND_DATA_KEY, VAULT_KIND_PASSWORD)
        boxes = await vault.boxes(self.store, [(user_id, kind, b"") for kind in kinds])
        for kind in kinds:
            if (user_id, int(kind), b"") in boxes:
                await self.log.append(
                    "vault",
                    vault.vault_key(user_id, kind),
                    None,
                    partition=partition_of_owner(user_id, self.log.partitions),
                )

    async def _move(self, records: Sequence[Record]) -> None:
        ends = {(record.topic, record.partition): record.number for record in records}
        moves = tuple(
            Move(topic, partition, self.at[topic, partition], end)
            for (topic, partition), end in sorted(ends.items())
        )
        await self.store.apply(SCHEMA, Batch(SCHEMA.view, moves, []))
        self.at.update(ends)


async def follow(parts: StreamParts) -> None:
    """Runs until cancelled."""
    registrations = Registrations(parts.views, parts.log, parts.clock, parts.settings)
    await registrations.open(parts.identity.log_id)
    reader = parts.log.group_reader(SCHEMA.view, SCHEMA.topics, registrations.start_positions)
    try:
        while True:
            try:
                await registrations.step(reader, wait_s=parts.settings.project_wait_s)
            except StoreUnavailable as error:
                logger.warning("waiting", why=error.message)
                await parts.clock.sleep(RETRY_S)
                for topic, partition in reader.assigned:
                    reader.reread(topic, partition)
    finally:
        await reader.close()


def _claim(record: Record) -> NameClaimed | None:
    """None for what view users has put aside as a dead letter."""
    try:
        message = decode(record).message
    except PoisonEvent:
        return None
    return message if isinstance(message, NameClaimed) else None
