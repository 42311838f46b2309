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

from social.log.v1 import (
    comments_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    names_pb2,
    saves_pb2,
    users_pb2,
)


@dataclass(slots=True)
class Name:
    """Who holds a name, since which event of topic `names`."""

    user_id: int
    claim_number: int


@dataclass(slots=True)
class User:
    """The handle counts only while the claim that it cites holds the name. `at_ms`, here and
    below: when it was made, which is the log's to say and no part of a comparison.
    """

    name_key: bytes
    claim_number: int
    handle: str
    display_name: str
    bio: str = ""
    deactivated: bool = False
    at_ms: int = field(default=0, compare=False)


@dataclass(slots=True)
class Media:
    """What was uploaded; `deleted` is for ever, and the id is never free again."""

    author_id: int
    content_sha256: bytes
    size_bytes: int
    caption: str = ""
    deleted: bool = False
    kind: int = 0
    width: int = 0
    height: int = 0
    at_ms: int = field(default=0, compare=False)


@dataclass(slots=True)
class Comment:
    """`mentioned_ids`: whom each different handle of the text meant; 0 where nobody."""

    media_id: int
    author_id: int
    text: str
    mentioned_ids: tuple[int, ...] = ()
    deleted: bool = False
    at_ms: int = field(default=0, compare=False)


_Sets = dict[int, set[int]]
_Requests = dict[tuple[int, bytes], int]


def _sets() -> _Sets:
    return defaultdict(set)


@dataclass(slots=True)
class Oracle:
    """The state at the end of what was applied. Edges map an id to the set of the other ends.

    Sets and counts hold what stands; what is shown leaves out whom deactivation hides.
    """

    names: dict[bytes, Name] = field(default_factory=dict)
    users: dict[int, User] = field(default_factory=dict)
    media: dict[int, Media] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    # What each (author, request) has created.
    uploads: _Requests = field(default_factory=dict)
    remarks: _Requests = field(default_factory=dict)
    following: _Sets = field(default_factory=_sets)
    followers: _Sets = field(default_factory=_sets)
    likers: _Sets = field(default_factory=_sets)
    liked: _Sets = field(default_factory=_sets)
    media_of: _Sets = field(default_factory=_sets)
    comments_of: _Sets = field(default_factory=_sets)
    saved: _Sets = field(default_factory=_sets)

    def apply(self, event: Message, *, number: int, text: bytes = b"") -> None:
        """One event of the topics that views are made of; others say nothing here.

        `number` is the event's own, `text` its opened `sealed`, empty when there is none.
        """
        match event:
            case follows_pb2.UserFollowed():
                self.following[event.follower_id].add(event.followee_id)
                self.followers[event.followee_id].add(event.follower_id)
            case follows_pb2.UserUnfollowed():
                self.following[event.follower_id].discard(event.followee_id)
                self.followers[event.followee_id].discard(event.follower_id)
            case likes_pb2.MediaLiked():
                self.likers[event.media_id].add(event.user_id)
                self.liked[event.user_id].add(event.media_id)
            case likes_pb2.MediaUnliked():
                self.likers[event.media_id].discard(event.user_id)
                self.liked[event.user_id].discard(event.media_id)
            case saves_pb2.MediaSaved():
                self.saved[event.user_id].add(event.media_id)
            case saves_pb2.MediaUnsaved():
                self.saved[event.user_id].discard(event.media_id)
            case media_pb2.MediaUploaded():
                self._upload(event, media_pb2.CaptionText.FromString(text).caption)
            case media_pb2.CaptionEdited() if item := self._item(event):
                item.caption = media_pb2.CaptionText.FromString(text).caption
            case media_pb2.MediaDeleted() if item := self._item(event):
                item.deleted = True
                self.media_of[event.author_id].discard(event.media_id)
            case comments_pb2.CommentAdded():
                self._add(event, comments_pb2.CommentText.FromString(text).text)
            case comments_pb2.CommentDeleted():
                self._delete(event)
            case _:
                self._apply_account(event, number, text)

    def _apply_account(self, event: Message, number: int, text: bytes) -> None:
        match event:
            case names_pb2.NameClaimed():
                # The first claim that finds the name free has it.
                self.names.setdefault(event.name_key, Name(event.user_id, number))
            case names_pb2.NameFreed():
                if self.names.get(event.name_key) == Name(event.user_id, event.claim_number):
                    del self.names[event.name_key]
            case users_pb2.UserRegistered() if event.user_id not in self.users:
                told = users_pb2.RegistrationText.FromString(text)
                self.users[event.user_id] = User(
                    event.name_key, event.claim_number, told.handle, told.display_name, told.bio,
                    at_ms=event.at_ms,
                )  # fmt: skip
            case users_pb2.ProfileUpdated() if user := self.users.get(event.user_id):
                profile = users_pb2.ProfileText.FromString(text)
                user.display_name, user.bio = profile.display_name, profile.bio
            case users_pb2.HandleChanged() if user := self.users.get(event.user_id):
                if (user.name_key, user.claim_number) == _freed_by(event):
                    user.name_key, user.claim_number = event.name_key, event.claim_number
                    user.handle = users_pb2.HandleText.FromString(text).handle
            case users_pb2.UserDeactivated() if user := self.users.get(event.user_id):
                user.deactivated = True
            case users_pb2.UserReactivated() if user := self.users.get(event.user_id):
                user.deactivated = False

    def handle(self, user_id: int) -> str:
        """The handle that is shown: empty unless the claim that it cites has the name."""
        user = self.users[user_id]
        return user.handle if self.holder(user.name_key) == user_id else ""

    def holder(self, name_key: bytes) -> int | None:
        """Who is found by this name: its holder, once he cites the claim that has it."""
        name = self.names.get(name_key)
        user = self.users.get(name.user_id) if name else None
        if name is None or user is None:
            return None
        cited = (user.name_key, user.claim_number)
        return name.user_id if cited == (name_key, name.claim_number) else None

    def stands(self, user_id: int) -> bool:
        """Whether others see the user."""
        return user_id in self.users and not self.users[user_id].deactivated

    def shows(self, media_id: int) -> bool:
        """Whether anybody sees the item."""
        item = self.media.get(media_id)
        return item is not None and not item.deleted and self.stands(item.author_id)

    def feed(self, user_id: int) -> list[int]:
        """Media that are shown, of the user and of those whom he follows, newest id first."""
        authors = {user_id} | self.following.get(user_id, set())
        found: Iterable[int] = (
            item for author in authors for item in self.media_of.get(author, ())
        )
        return sorted(filter(self.shows, found), reverse=True)

    def timeline(self, author_id: int) -> list[int]:
        """An author's media that stand, newest id first."""
        return sorted(self.media_of.get(author_id, ()), reverse=True)

    def count_likes(self, media_id: int) -> int:
        return len(self.likers.get(media_id, ()))

    def count_comments(self, media_id: int) -> int:
        return len(self.comments_of.get(media_id, ()))

    def count_followers(self, user_id: int) -> int:
        return len(self.followers.get(user_id, ()))

    def count_following(self, user_id: int) -> int:
        return len(self.following.get(user_id, ()))

    def count_media(self, user_id: int) -> int:
        return len(self.media_of.get(user_id, ()))

    def _item(self, event: media_pb2.CaptionEdited | media_pb2.MediaDeleted) -> Media | None:
        """Its own author's item, unless it is gone."""
        item = self.media.get(event.media_id)
        mine = item is not None and item.author_id == event.author_id and not item.deleted
        return item if mine else None

    def _upload(self, event: media_pb2.MediaUploaded, caption: str) -> None:
        request = (event.author_id, event.request_id)
        if event.media_id in self.media or request in self.uploads:
            return
        self.uploads[request] = event.media_id
        self.media[event.media_id] = Media(
            event.author_id, event.content_sha256, event.size_bytes, caption,
            kind=event.kind, width=event.width, height=event.height, at_ms=event.at_ms,
        )  # fmt: skip
        self.media_of[event.author_id].add(event.media_id)

    def _add(self, event: comments_pb2.CommentAdded, text: str) -> None:
        request = (event.author_id, event.request_id)
        if event.comment_id in self.comments or request in self.remarks:
            return
        self.remarks[request] = event.comment_id
        self.comments[event.comment_id] = Comment(
            event.media_id, event.author_id, text, tuple(event.mentioned_ids), at_ms=event.at_ms
        )
        self.comments_of[event.media_id].add(event.comment_id)

    def _delete(self, event: comments_pb2.CommentDeleted) -> None:
        comment = self.comments.get(event.comment_id)
        named = (event.author_id, event.media_id)
        if comment is not None and (comment.author_id, comment.media_id) == named:
            comment.deleted = True
            self.comments_of[event.media_id].discard(event.comment_id)


def _freed_by(event: users_pb2.HandleChanged) -> tuple[bytes, int]:
    """The claim that the user must cite for the change to count."""
    return event.frees_name_key, event.frees_claim_number
