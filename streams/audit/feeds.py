"""The oracle's word about the feeds of a slice of users: whom they follow, then those authors'
media.

Held in memory: the slice's edges, and the media of all authors whom one of its users follows.
Above `members_max` users are left to the next slice; one feed alone is held whole.
"""

from dataclasses import dataclass, field

from google.protobuf.message import Message

from millrace.log.codec import Event
from millrace.oracle import Oracle
from social.log.v1 import follows_pb2, media_pb2, users_pb2
from streams.audit.keys import Keys, Room

# In this order: who follows whom decides whose media are needed.
FEED_TOPICS = ("follows", "users", "media")


@dataclass(slots=True)
class TouchedFeeds:
    """What events after the position touched: media and authors, of all feeds or of one."""

    media: set[int] = field(default_factory=set)
    authors: set[int] = field(default_factory=set)
    edges: set[tuple[int, int]] = field(default_factory=set)

    @property
    def count(self) -> int:
        return len(self.media) + len(self.authors) + len(self.edges)

    def covers(self, user_id: int, media_id: int, author_id: int) -> bool:
        """Whether the item may be in this feed or not."""
        edge = (user_id, author_id)
        return media_id in self.media or author_id in self.authors or edge in self.edges


class FeedSlice:
    """`expected` when all is fed. `begin` before each topic's events."""

    def __init__(self, keys: Keys, members_max: int) -> None:
        self.oracle = Oracle()
        self.keys = keys
        self.touched = TouchedFeeds()
        self._room = Room(keys, members_max, self._sweep)
        self._authors: set[int] = set()
        self._shared: set[int] = set()

    def expected(self, user_id: int) -> list[tuple[int, int]]:
        """(media id, author id), newest first."""
        media = self.oracle.media
        return [(one, media[one].author_id) for one in self.oracle.feed(user_id)]

    def begin(self) -> None:
        following = self.oracle.following
        self._authors = set().union(*(following.get(key, ()) for key in self.keys))

    def note(self, event: Event) -> None:
        """In a pass of its own before `feed`, where the keys were chosen: ids of the authors'
        uploads, for somebody else may have had one before.
        """
        message = event.message
        if isinstance(message, media_pb2.MediaUploaded) and self._needs(message.author_id):
            self._shared.add(message.media_id)

    def feed(self, event: Event) -> None:
        if not self._concerned(event.message):
            return
        self.oracle.apply(event.message, number=event.number)
        self._room.add()

    def touch(self, event: Event) -> int:
        """An event after the position; how much is touched by now."""
        touched = self.touched
        match event.message:
            case follows_pb2.UserFollowed() | follows_pb2.UserUnfollowed() as edge:
                if edge.follower_id in self.keys:
                    touched.edges.add((edge.follower_id, edge.followee_id))
            case users_pb2.UserDeactivated() | users_pb2.UserReactivated() as user:
                touched.authors.add(user.user_id)
            case users_pb2.UserRegistered() as user:
                touched.authors.add(user.user_id)
            case media_pb2.MediaUploaded() | media_pb2.MediaDeleted() as item:
                touched.media.add(item.media_id)
        return touched.count

    def _needs(self, author_id: int) -> bool:
        return author_id in self.keys or author_id in self._authors

    def _concerned(self, message: Message) -> bool:
        match message:
            case follows_pb2.UserFollowed() | follows_pb2.UserUnfollowed():
                return self.keys.take(message.follower_id)
            case users_pb2.UserRegistered():
                return self.keys.take(message.user_id) or self._needs(message.user_id)
            case users_pb2.UserDeactivated() | users_pb2.UserReactivated():
                return self._needs(message.user_id)
            case media_pb2.MediaUploaded() | media_pb2.MediaDeleted():
                return self._needs(message.author_id) or message.media_id in self._shared
        return False

    def _sweep(self) -> int:
        oracle = self.oracle
        oracle.followers.clear()
        for user_id in [one for one in oracle.following if one not in self.keys]:
            del oracle.following[user_id]
        self.begin()
        for user_id in [one for one in oracle.users if not self._needs(one)]:
            del oracle.users[user_id]
        media = oracle.media
        for media_id in [one for one, item in media.items() if not self._needs(item.author_id)]:
            del media[media_id]
        oracle.uploads = {key: one for key, one in oracle.uploads.items() if one in media}
        for author_id in [one for one in oracle.media_of if not self._needs(one)]:
            del oracle.media_of[author_id]
        edges = sum(map(len, oracle.following.values()))
        return edges + len(oracle.users) + len(media)
