"""People, follows and posts for a bench, in the log by bulk, as the events that services write."""

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cli.benches.stand import Stand, Watch
from millrace.auth.keys import load_keys
from millrace.client import Client, Session
from millrace.clock import Clock, SystemClock
from millrace.errors import StoreUnavailable
from millrace.ids import IdMint
from millrace.log.kafka import KafkaLog
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import NewRecord
from millrace.relations import View
from millrace.stores.port import ViewStore
from millrace.traffic import people
from millrace.traffic.graph_load import load_graph
from social.log.v1.media_pb2 import MEDIA_KIND_JPEG, MediaEvent, MediaUploaded

_POLL_S = 0.05
_LOG_INS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Post:
    media_id: int
    author_id: int


def posts_of(author_ids: Iterable[int], mint: IdMint, partitions: int) -> list[Post]:
    """One post of each author, in this order. One mint for all posts of a bench: so many ids run
    ahead of the clock, and a second mint would give some of them again.
    """
    return [
        Post(mint.mint(partition_of_owner(author_id, partitions)), author_id)
        for author_id in author_ids
    ]


async def append_posts(log: KafkaLog, posts: Sequence[Post], clock: Clock) -> None:
    """Events of pictures without captions; their bytes are nowhere."""
    await log.append_many("media", _uploaded(posts, clock.now_ms()))


def _uploaded(posts: Sequence[Post], at_ms: int) -> Iterator[NewRecord]:
    for post in posts:
        sha256 = hashlib.sha256(post.media_id.to_bytes(8, "big")).digest()
        uploaded = MediaUploaded(
            media_id=post.media_id,
            author_id=post.author_id,
            at_ms=at_ms,
            request_id=secrets.token_bytes(16),
            body_sha256=sha256,
            kind=MEDIA_KIND_JPEG,
            width=1_080,
            height=1_350,
            object_key=f"media/{sha256.hex()}",
            size_bytes=180_000,
            content_sha256=sha256,
        )
        event = MediaEvent(uploaded=uploaded)
        yield NewRecord(key_of(post.author_id), event.SerializeToString())


async def load_people(stand: Stand, log: KafkaLog, following: Sequence[Sequence[int]]) -> list[int]:
    """Registered people who follow each other; returns user ids by person."""
    keys = load_keys(stand.settings.keys_dir)
    return await load_graph(log, keys, SystemClock(), stand.settings, following, stand.told)


async def log_in(address: str, persons: Sequence[int]) -> list[Session]:
    """Sessions of loaded people, in this order."""
    client = Client(address)
    turn = asyncio.Semaphore(_LOG_INS_AT_ONCE)

    async def one(person: int) -> Session:
        async with turn:
            return await client.log_in(people.handle(person), people.PASSWORD)

    try:
        return await asyncio.gather(*(one(person) for person in persons))
    finally:
        await client.close()


async def until_applied(
    log: KafkaLog, store: ViewStore, views: Sequence[View], timeout_s: float
) -> None:
    """Until these views hold what is in the log now. Raises StoreUnavailable."""
    watch = Watch()
    for view in views:
        ends = {topic: await log.ends(topic) for topic in view.topics}
        while not await _covers(store, view, ends):
            if watch.seconds > timeout_s:
                raise StoreUnavailable(f"view {view.name} does not catch up with the bench")
            await asyncio.sleep(_POLL_S)


async def _covers(store: ViewStore, view: View, ends: dict[str, list[int]]) -> bool:
    stored = await store.positions(view.name)
    return bool(stored) and all(
        stored[topic, partition].position >= end
        for topic, of_topic in ends.items()
        for partition, end in enumerate(of_topic)
    )
