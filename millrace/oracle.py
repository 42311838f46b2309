"""A dict model of the whole product, written from the guarantees of the contract.

Fed with the log's events in the order of each partition (partitions may interleave anyhow), it
says what every view must say. It shares no code with the projections that it judges: it knows
the generated protos and nothing else of Millrace.

Not: sealed text. Whoever feeds the model opens it and passes it beside the event.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import Message

from social.log.v1 import follows_pb2, likes_pb2, media_pb2, names_pb2, users_pb2


@dataclass(slots=True)
class Name:
    """Who holds a name, since which event of topic `names`."""

    user_id: int
    claim_number: int


@dataclass(slots=True)
class User:
    """What was registered. The handle counts only while the name's holder is this claim."""

    name_key: bytes
    claim_number: int
    handle: str
    display_name: str
    bio: str = ""


@dataclass(slots=True)
class Media:
    """What was uploaded; `deleted` is for ever, and the id is never free again."""

    author_id: int
    content_sha256: bytes
    size_bytes: int
    caption: str = ""
    deleted: bool = False


@dataclass(slots=True)
class Oracle:
    """The state at the end of what was applied. Edges map an id to the set of the other ends."""

    names: dict[bytes, Name] = field(default_factory=dict)
    users: dict[int, User] = field(default_factory=dict)
    media: dict[int, Media] = field(default_factory=dict)
    uploads: dict[tuple[int, bytes], int] = field(default_factory=dict)
    following: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    followers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    likers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    media_of: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def apply(self, event: Message, *, number: int, text: bytes = b"") -> None:
        """One event of topics names, users, media, follows, likes; others say nothing here.

        `number` is the event's own, `text` its opened `sealed`, empty when there is none.
        """
        match event:
            case names_pb2.NameClaimed():
                # The first claim in the log has the name; nothing frees one yet.
                self.names.setdefault(event.name_key, Name(event.user_id, number))
            case users_pb2.UserRegistered():
                self._register(event, users_pb2.RegistrationText.FromString(text))
            case users_pb2.ProfileUpdated() if event.user_id in self.users:
                profile = users_pb2.ProfileText.FromString(text)
                user = self.users[event.user_id]
                user.display_name, user.bio = profile.display_name, profile.bio
            case media_pb2.MediaUploaded():
                self._upload(event, media_pb2.CaptionText.FromString(text).caption)
            case media_pb2.MediaDeleted():
                self._delete(event.media_id, event.author_id)
            case follows_pb2.UserFollowed():
                self.following[event.follower_id].add(event.followee_id)
                self.followers[event.followee_id].add(event.follower_id)
            case follows_pb2.UserUnfollowed():
                self.following[event.follower_id].discard(event.followee_id)
                self.followers[event.followee_id].discard(event.follower_id)
            case likes_pb2.MediaLiked():
                self.likers[event.media_id].add(event.user_id)
            case likes_pb2.MediaUnliked():
                self.likers[event.media_id].discard(event.user_id)

    def handle(self, user_id: int) -> str:
        """The handle that is shown: empty unless the user's claim has the name."""
        user = self.users[user_id]
        name = self.names.get(user.name_key)
        return user.handle if name and name.claim_number == user.claim_number else ""

    def feed(self, user_id: int) -> list[int]:
        """Media that stand, of the user and of those whom he follows, newest id first."""
        authors = {user_id} | self.following.get(user_id, set())
        found: Iterable[int] = (
            item for author in authors for item in self.media_of.get(author, ())
        )
        return sorted(found, reverse=True)

    def timeline(self, author_id: int) -> list[int]:
        """An author's media that stand, newest id first."""
        return sorted(self.media_of.get(author_id, ()), reverse=True)

    def count_likes(self, media_id: int) -> int:
        return len(self.likers.get(media_id, ()))

    def count_followers(self, user_id: int) -> int:
        return len(self.followers.get(user_id, ()))

    def count_following(self, user_id: int) -> int:
        return len(self.following.get(user_id, ()))

    def count_media(self, user_id: int) -> int:
        return len(self.media_of.get(user_id, ()))

    def _register(self, event: users_pb2.UserRegistered, text: users_pb2.RegistrationText) -> None:
        if event.user_id not in self.users:
            self.users[event.user_id] = User(
                event.name_key, event.claim_number, text.handle, text.display_name, text.bio
            )

    def _upload(self, event: media_pb2.MediaUploaded, caption: str) -> None:
        request = (event.author_id, event.request_id)
        if event.media_id in self.media or request in self.uploads:
            return
        self.uploads[request] = event.media_id
        self.media[event.media_id] = Media(
            event.author_id, event.content_sha256, event.size_bytes, caption
        )
        self.media_of[event.author_id].add(event.media_id)

    def _delete(self, media_id: int, author_id: int) -> None:
        item = self.media.get(media_id)
        if item is not None and item.author_id == author_id:
            item.deleted = True
            self.media_of[author_id].discard(media_id)
