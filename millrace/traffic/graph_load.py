"""Loads a follow graph into the log, as the events that services would have written.

Users with leased ids, secrets, claimed names and registrations, then their follows; in bulk, so
that a graph of 60,000 edges takes seconds. All share one password hash: they are made up. Views
catch up by themselves; a run that was broken off leaves users that nobody uses.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence

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
from millrace.views.registration import NewUser, claim_of, registration_of, secrets_of
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
) -> list[int]:
    """`following[i]`: whom person i follows. Returns the user ids by person.

    Into a log that has the graph already it brings people without names: ask the view before.
    """
    users = await _new_users(log, keys, clock, settings, len(following))
    told(f"secrets and names of {len(users):,} people")
    secret = (record for user in users for record in secrets_of(user, keys.master, log.partitions))
    await log.append_many("vault", secret)
    start = await log.ends(NAMES)
    ends = await log.append_many(NAMES, (claim_of(user) for user in users))
    claims = await _claim_numbers(log, start, ends)
    await log.append_many("users", (registration_of(user, claims[user.name_key]) for user in users))
    told(f"{sum(map(len, following)):,} follows")
    ids = [user.user_id for user in users]
    await log.append_many("follows", _follows(ids, following, clock.now_ms()))
    return ids


async def _new_users(
    log: Log, keys: Keys, clock: Clock, settings: Settings, count: int
) -> list[NewUser]:
    passwords = Passwords(settings, metrics.PASSWORD_SECONDS)
    control = Control(log)
    try:
        await control.catch_up()
        user_ids = UserIds(log, control)
        password_hash = await passwords.hash(people.PASSWORD)
        return [
            _new_user(person, await user_ids.next_id(), keys, password_hash, clock.now_ms())
            for person in range(count)
        ]
    finally:
        passwords.close()
        await control.close()


def _new_user(person: int, user_id: int, keys: Keys, password_hash: str, at_ms: int) -> NewUser:
    text = RegistrationText(handle=people.handle(person), display_name=people.display_name(person))
    return NewUser(
        user_id=user_id,
        name_key=names.name_key(keys, text.handle),
        text=text,
        data_key=sealing.new_data_key(),
        password_hash=password_hash,
        request_id=secrets.token_bytes(16),
        # Of no request: a client that guesses the request_id does not take the account over.
        body_mac=secrets.token_bytes(32),
        at_ms=at_ms,
    )


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
