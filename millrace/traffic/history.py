"""What the log says, read from its start to its present end: into the oracle, and counted.

Opens sealed text with the master key and the vault's records, without any view: the checks must
not trust what they check. All in memory: for runs of demos and tests, not for a year of likes.
"""

from collections import Counter
from dataclasses import dataclass, field

from millrace.auth import sealing
from millrace.errors import PoisonEvent, StoreUnavailable
from millrace.log.codec import Event, decode, sealed_of
from millrace.log.counted import Counted
from millrace.log.letters import read_letters
from millrace.log.port import Log
from millrace.log.topics import DEAD_SUFFIX, TOPICS
from millrace.oracle import Oracle
from millrace.traffic.record import Edge
from social.log.v1 import follows_pb2, likes_pb2, users_pb2, vault_pb2

# Keys before texts, names and users before what refers to them.
_TOPICS = ("vault", "names", "users", "media", "follows", "likes", "comments")
_BATCH_RECORDS = 5_000
_WAIT_S = 0.5
_EMPTY_BATCHES_MAX = 20


@dataclass(slots=True)
class History:
    """`edges`: how often each write on an edge is in the log. `profiles`: (user, bio) of every
    update. `ends`: positions read up to.
    """

    oracle: Oracle = field(default_factory=Oracle)
    edges: Counter[Edge] = field(default_factory=Counter)
    profiles: set[tuple[int, str]] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    dead_letters: dict[str, int] = field(default_factory=dict)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    _data_keys: dict[int, bytes] = field(default_factory=dict)

    def take(self, event: Event, master: bytes, counted: Counted) -> None:
        self.events[type(event.message).__name__] += 1
        if isinstance(event.message, vault_pb2.VaultRecord):
            self._take_secret(event.key, event.message, master)
            return
        sealed = sealed_of(event.message)
        data_key = self._data_keys.get(sealed.owner_id) if sealed else None
        text = sealing.open_text(data_key, sealed) if sealed and data_key else b""
        if counted.counts(event):
            self.oracle.apply(event.message, number=event.number, text=text)
        match event.message:
            case users_pb2.ProfileUpdated(user_id=user):
                self.profiles.add((user, users_pb2.ProfileText.FromString(text).bio))
            case likes_pb2.MediaLiked(user_id=user, media_id=media):
                self.edges[Edge("likes", user, media, live=True)] += 1
            case likes_pb2.MediaUnliked(user_id=user, media_id=media):
                self.edges[Edge("likes", user, media, live=False)] += 1
            case follows_pb2.UserFollowed(follower_id=user, followee_id=other):
                self.edges[Edge("follows", user, other, live=True)] += 1
            case follows_pb2.UserUnfollowed(follower_id=user, followee_id=other):
                self.edges[Edge("follows", user, other, live=False)] += 1

    def _take_secret(self, key: bytes, record: vault_pb2.VaultRecord, master: bytes) -> None:
        owner = vault_pb2.VaultKey.FromString(key)
        if owner.kind == vault_pb2.VAULT_KIND_DATA_KEY and record.box:
            secret = sealing.open_secret(master, key, record.box)
            self._data_keys[owner.user_id] = secret.data_key


async def read_history(log: Log, master: bytes) -> History:
    """Everything that is in the log at this moment. Poison is passed over, as views do; what became
    a dead letter is in the log, and not in the oracle unless it was tried again.

    Raises StoreUnavailable when the log stops answering.
    """
    history = History()
    counted = Counted({letter.event for letter in await read_letters(log)})
    for topic in _TOPICS:
        await _read_topic(log, topic, master, history, counted)
    for topic in TOPICS:
        if topic.endswith(DEAD_SUFFIX):
            history.dead_letters[topic] = sum(await log.ends(topic))
    return history


async def _read_topic(
    log: Log, topic: str, master: bytes, history: History, counted: Counted
) -> None:
    ends = {(topic, partition): end for partition, end in enumerate(await log.ends(topic))}
    history.ends |= ends
    left = {place for place, end in ends.items() if end}
    reader = log.reader(dict.fromkeys(left, 0))
    silent = 0
    try:
        while left:
            records = await reader.batch(_BATCH_RECORDS, _WAIT_S)
            silent = 0 if records else silent + 1
            if silent > _EMPTY_BATCHES_MAX:
                raise StoreUnavailable(f"the log stopped before the end of {topic}: {left}")
            for record in records:
                place = (topic, record.partition)
                try:
                    if record.number <= ends[place]:
                        history.take(decode(record), master, counted)
                except PoisonEvent:
                    history.events["poison"] += 1
                if record.number >= ends[place]:
                    left.discard(place)
    finally:
        await reader.close()
