"""What is audited, by name: whose members, in which order, counted or not; and which members an
event speaks of.

Independent of the views' declarations: it is read beside them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from millrace.oracle import Oracle
from social.log.v1 import comments_pb2, follows_pb2, likes_pb2, media_pb2, saves_pb2

Sets = Mapping[int, set[int]]


@dataclass(frozen=True, slots=True)
class Relation:
    """`of` says what its keys are: users or media. `held`: the members that the oracle knows."""

    name: str
    of: str
    topic: str
    held: Callable[[Oracle], Sets]
    counted: str = ""
    newest_first: bool = False

    def expected(self, oracle: Oracle, key: int) -> set[int]:
        return self.held(oracle).get(key, set())

    def ordered(self, found: Iterable[int]) -> list[int]:
        """As the pages have them."""
        return sorted(found, reverse=self.newest_first)


RELATIONS = (
    Relation("follows", "users", "follows", lambda o: o.following, counted="following"),
    Relation("followers", "users", "follows", lambda o: o.followers, counted="followers"),
    Relation("likes_by_user", "users", "likes", lambda o: o.liked),
    Relation(
        "media_by_author", "users", "media", lambda o: o.media_of, "media", newest_first=True
    ),
    Relation("saves", "users", "saves", lambda o: o.saved, counted="saves", newest_first=True),
    Relation("likes", "media", "likes", lambda o: o.likers, counted="likes"),
    Relation(
        "comments_by_media", "media", "comments", lambda o: o.comments_of, "comments",
        newest_first=True,
    ),
)  # fmt: skip


def members(message: Message) -> Iterator[tuple[str, int, int]]:
    """(relation, key, member) that this event begins or ends."""
    match message:
        case follows_pb2.UserFollowed() | follows_pb2.UserUnfollowed():
            yield "follows", message.follower_id, message.followee_id
            yield "followers", message.followee_id, message.follower_id
        case likes_pb2.MediaLiked() | likes_pb2.MediaUnliked():
            yield "likes", message.media_id, message.user_id
            yield "likes_by_user", message.user_id, message.media_id
        case saves_pb2.MediaSaved() | saves_pb2.MediaUnsaved():
            yield "saves", message.user_id, message.media_id
        case media_pb2.MediaUploaded() | media_pb2.MediaDeleted():
            yield "media_by_author", message.author_id, message.media_id
        case comments_pb2.CommentAdded() | comments_pb2.CommentDeleted():
            yield "comments_by_media", message.media_id, message.comment_id
