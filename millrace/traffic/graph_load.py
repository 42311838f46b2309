"""Loads a follow graph into the log, as the events that services would have written.

Users with leased ids, secrets, claimed names and registrations, then their follows; in bulk, so
that a graph of 60,000 edges takes seconds. All share one password hash: they are made up. Views
catch up by themselves; a run that was broken off leaves users that nobody uses.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from millrace.auth import names, sealing
from millrace.auth.keys import Keys
from millrace.auth.passwords import Passwords
from millrace.clock import Clock
from millrace.errors import StoreUnavailable
from millrace.log.codec import decode
from millrace.log.control import Control
from millrace.log.partitioner import key_of
from millrace.log.port import Log, NewRecord
from millrace.log.user_ids import UserIds
from millrace.observe import metrics
from millrace.settings import Settings
from millrace.traffic import people
from millrace.views.registration import Claim, identity, name_claimed, user_registered
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed
from social.log.v1.names_pb2 import NameClaimed
from social.log.v1.users_pb2 import RegistrationText

NAMES = "names"
_BATCH_RECORDS = 5_000
_WAIT_S = 0.5
_EMPTY_BATCHES_MAX = 20


async def load_graph(
    log: Log,
    keys: Keys,
    clock: Clock,
    settings: Settings,
    following: Sequence[Sequence[int]],
    told: Callable[[str], None],
    *,
    run: str = "",
) -> list[int]:
    """`following[i]`: whom person i follows. Returns the user ids by person.

    `run` sets the handles apart from those of earlier runs: into a log that has these people
    already it brings people without names.
    """
    wanted, password_hash = await _claims(log, keys, clock, settings, len(following), run)
    told(f"secrets and names of {len(wanted):,} people")
    secret = (
        record
        for claim in wanted
        for record in identity(keys.master, log.partitions, claim, password_hash)
    )
    await log.append_many("vault", secret)
    start = await log.ends(NAMES)
    ends = await log.append_many(NAMES, map(_claimed, wanted))
    numbers = await _claim_numbers(log, start, ends)
    await log.append_many("users", (_registered(claim, numbers) for claim in wanted))
    told(f"{sum(map(len, following)):,} follows")
    ids = [claim.user_id for claim in wanted]
    await log.append_many("follows", _follows(ids, following, clock.now_ms()))
    return ids


async def _claims(
    log: Log, keys: Keys, clock: Clock, settings: Settings, count: int, run: str
) -> tuple[list[Claim], str]:
    """By person; and the password hash that all of them share."""
    passwords = Passwords(settings, metrics.PASSWORD_SECONDS)
    control = Control(log)
    try:
        await control.catch_up()
        user_ids = UserIds(log, control)
        claims = [
            _claim(person, await user_ids.next_id(), keys, clock.now_ms(), run)
            for person in range(count)
        ]
        return claims, await passwords.hash(people.PASSWORD)
    finally:
        passwords.close()
        await control.close()


def _claim(person: int, user_id: int, keys: Keys, at_ms: int, run: str) -> Claim:
    handle = people.handle(person, run)
    return Claim(
        user_id=user_id,
        name_key=names.name_key(keys, handle),
        text=RegistrationText(handle=handle, display_name=people.display_name(person)),
        data_key=sealing.new_data_key(),
        request_id=secrets.token_bytes(16),
        # Of no request: a client that guesses the request_id does not take the account over.
        body_mac=secrets.token_bytes(32),
        at_ms=at_ms,
    )


def _claimed(claim: Claim) -> NewRecord:
    return NewRecord(claim.name_key, name_claimed(claim).SerializeToString())


def _registered(claim: Claim, numbers: Mapping[bytes, int]) -> NewRecord:
    event = user_registered(
        claim.user_id,
        claim.name_key,
        numbers[claim.name_key],
        claim.text,
        claim.data_key,
        claim.at_ms,
    )
    return NewRecord(key_of(claim.user_id), event.SerializeToString())


async def _claim_numbers(log: Log, start: Sequence[int], ends: dict[int, int]) -> dict[bytes, int]:
    """Number of the first claim of each name key between `start` and `ends`."""
    reader = log.reader({(NAMES, partition): start[partition] for partition in ends})
    left = dict(ends)
    found: dict[bytes, int] = {}
    silent = 0
    try:
        while left:
            records = await reader.batch(_BATCH_RECORDS, _WAIT_S)
            silent = 0 if records else silent + 1
            if silent > _EMPTY_BATCHES_MAX:
                raise StoreUnavailable("the log stopped while claims were read back")
            for record in records:
                message = decode(record).message
                if isinstance(message, NameClaimed):
                    found.setdefault(message.name_key, record.number)
                if record.number >= left.get(record.partition, record.number + 1):
                    del left[record.partition]
    finally:
        await reader.close()
    return found


def _follows(
    ids: Sequence[int], following: Sequence[Sequence[int]], at_ms: int
) -> Iterator[NewRecord]:
    for person, followees in enumerate(following):
        yield from _follows_of(ids[person], (ids[other] for other in followees), at_ms)


def _follows_of(follower_id: int, followee_ids: Iterable[int], at_ms: int) -> Iterator[NewRecord]:
    key = key_of(follower_id)
    for followee_id in followee_ids:
        followed = UserFollowed(follower_id=follower_id, followee_id=followee_id, at_ms=at_ms)
        yield NewRecord(key, FollowsEvent(followed=followed).SerializeToString())
