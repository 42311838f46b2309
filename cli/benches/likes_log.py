"""Likes in the log, as the services write them: one event a record, acknowledged one by one.

Who likes what comes from a follow graph: each follower likes the one item of whom he follows, so
that items are as unevenly liked as people are followed.
"""

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from millrace.clock import Clock
from millrace.ids import IdMint
from millrace.log.kafka import KafkaLog
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.traffic.graph import Graph
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked

TOPIC = "likes"
# As one server process has at once under the load of the RPC bench.
CALLS_AT_ONCE = 64
# Of a batch in a segment: offset and length, then up to the count of its records, which is last.
_HEAD = struct.Struct(">qi")
_COUNT = struct.Struct(">i")
_COUNT_AT = 57


@dataclass(frozen=True, slots=True)
class Like:
    media_id: int
    user_id: int


def likes_of(graph: Graph, count: int, clock: Clock, partitions: int) -> list[Like]:
    """`count` different likes, or as many as the graph has edges, in an order of a fixed seed."""
    mint = IdMint(clock)
    media = [mint.mint(partition_of_owner(i + 1, partitions)) for i in range(graph.people)]
    order = np.random.default_rng(1).permutation(graph.follower.size)[:count]
    return [
        Like(media[followee], follower + 1)
        for follower, followee in zip(
            graph.follower[order].tolist(), graph.followee[order].tolist(), strict=True
        )
    ]


async def append(log: KafkaLog, likes: list[Like], clock: Clock) -> None:
    """By `CALLS_AT_ONCE` writers, each waiting for its acknowledgement as an RPC does."""
    waiting = iter(likes)

    async def write() -> None:
        for like in waiting:
            await append_one(log, like, clock)

    async with asyncio.TaskGroup() as writers:
        for _ in range(CALLS_AT_ONCE):
            writers.create_task(write())


async def append_one(log: KafkaLog, like: Like, clock: Clock) -> None:
    liked = MediaLiked(user_id=like.user_id, media_id=like.media_id, at_ms=clock.now_ms())
    await log.append(TOPIC, key_of(like.user_id), LikesEvent(liked=liked).SerializeToString())


def records_a_batch(kafka_dir: Path, topic: str) -> float:
    """Mean over the segments on disk: what a producer sent as one batch stays one."""
    counts = [
        count
        for segment in kafka_dir.rglob(f"{topic}-[0-9]*/*.log")
        for count in _counts(segment.read_bytes())
    ]
    return sum(counts) / max(len(counts), 1)


def _counts(segment: bytes) -> Iterator[int]:
    at = 0
    while at + _COUNT_AT + _COUNT.size <= len(segment):
        _, length = _HEAD.unpack_from(segment, at)
        if length <= 0:
            # Room that the broker has set aside.
            return
        yield _COUNT.unpack_from(segment, at + _COUNT_AT)[0]
        at += _HEAD.size + length
