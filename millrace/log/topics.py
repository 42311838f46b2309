"""Every topic, on one screen: what it holds, who its key is, how long it is kept."""

from dataclasses import dataclass

from google.protobuf.message import Message

from social.log.v1 import (
    comments_pb2,
    control_pb2,
    dead_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    names_pb2,
    progress_pb2,
    saves_pb2,
    users_pb2,
    vault_pb2,
)

FOREVER_MS = -1
WEEK_MS = 7 * 24 * 3600 * 1000
DEAD_SUFFIX = ".dead"


@dataclass(frozen=True, slots=True)
class Topic:
    """`single`: one partition instead of `log_partitions`. `compacted`: the newest of a key."""

    name: str
    message: type[Message]
    retention_ms: int = FOREVER_MS
    compacted: bool = False
    single: bool = False

    def partitions(self, log_partitions: int) -> int:
        return 1 if self.single else log_partitions


_EVENTS = (
    # key: the user
    Topic("users", users_pb2.UsersEvent),
    # key: the author
    Topic("media", media_pb2.MediaEvent),
    # key: the follower
    Topic("follows", follows_pb2.FollowsEvent),
    # key: the liker
    Topic("likes", likes_pb2.LikesEvent),
    # key: the comment's author
    Topic("comments", comments_pb2.CommentsEvent),
    # key: who saves
    Topic("saves", saves_pb2.SavesEvent),
    # key: HMAC of the normalised name
    Topic("names", names_pb2.NamesEvent),
    # key: VaultKey; placed by its user
    Topic("vault", vault_pb2.VaultRecord, compacted=True),
)
_FEED = (
    # placed by media partition
    Topic("plans", feed_pb2.FeedPlan, retention_ms=WEEK_MS),
    Topic("chunks.small", feed_pb2.FeedChunk, retention_ms=WEEK_MS),
    Topic("chunks.large", feed_pb2.FeedChunk, retention_ms=WEEK_MS),
)
# What could not be taken is kept for ever, for a better deploy or a person to look at.
_DEAD = tuple(Topic(topic.name + DEAD_SUFFIX, dead_pb2.DeadLetter) for topic in _EVENTS + _FEED)
_SINGLE = (
    Topic("control", control_pb2.ControlEvent, single=True),
    # key: view and range of shards
    Topic("progress", progress_pb2.ViewProgress, compacted=True, single=True),
    # key: media partition
    Topic("feed_marks", feed_pb2.FeedMark, compacted=True, single=True),
)

TOPICS: dict[str, Topic] = {topic.name: topic for topic in (*_EVENTS, *_FEED, *_DEAD, *_SINGLE)}
