"""Who may see and do what, in one place. Pure: callers read the facts, in batches, and ask.

What the viewer may not see is NotFound; PermissionDenied is for what he sees and may not
change. A write is admitted by what the views say when it is taken; what slips in late stays in
its set, and these rules hide it.

A user who is deactivated does not stand: he is hidden, and all that is his, from everybody.

Not yet: private accounts, blocks, mutes (the facts grow with their issues).
"""

from dataclasses import dataclass

from millrace.errors import FailedPrecondition, InvalidRequest, NotFound, PermissionDenied


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """A media item that stands (deleted ones are None), and whether its author is there and not
    deactivated.
    """

    author_id: int
    author_stands: bool


def sees_media(media: MediaFacts | None) -> bool:
    return media is not None and media.author_stands


def check_media_seen(media: MediaFacts | None) -> None:
    if not sees_media(media):
        raise NotFound("there is no such media item", reason="MEDIA_NOT_FOUND")


def check_media_changed(viewer_id: int, media: MediaFacts | None) -> None:
    """Deleting and editing are the author's."""
    check_media_seen(media)
    if media is not None and media.author_id != viewer_id:
        raise PermissionDenied("only its author may change it", reason="NOT_THE_AUTHOR")


@dataclass(frozen=True, slots=True)
class CommentFacts:
    """A comment of one item, whether its author stands, and whether it has been deleted."""

    author_id: int
    author_stands: bool
    deleted: bool


def check_comment_deleted(
    viewer_id: int, comment: CommentFacts | None, media: MediaFacts | None
) -> int:
    """The author of the comment, which the viewer may delete, perhaps again.

    It is for its author, whatever he sees of the item now, and for the item's author.
    """
    if comment is not None and comment.author_id == viewer_id:
        return comment.author_id
    check_media_seen(media)
    moderates = media is not None and media.author_id == viewer_id
    again = comment is not None and comment.deleted and moderates
    if comment is None or not (again or (comment.author_stands and not comment.deleted)):
        raise NotFound("there is no such comment", reason="COMMENT_NOT_FOUND")
    if not moderates:
        raise PermissionDenied(
            "only its author and the item's may delete it", reason="NOT_THE_AUTHOR"
        )
    return comment.author_id


def check_user_seen(stands: bool) -> None:
    if not stands:
        raise NotFound("there is no such user", reason="USER_NOT_FOUND")


def check_active(active: bool) -> None:
    """Of the caller himself: whoever is deactivated may only come back, or leave."""
    if not active:
        raise FailedPrecondition(
            "this account is deactivated: ReactivateUser first", reason="USER_DEACTIVATED"
        )


def check_not_self(actor_id: int, user_id: int) -> None:
    if actor_id == user_id:
        raise InvalidRequest("that is the caller himself", reason="SELF")


def check_follow(
    follower_id: int, followee_id: int, *, stands: bool, has_room: bool, followees_max: int
) -> None:
    """`stands`: the followee is there; `has_room`: the follower follows fewer than
    `followees_max`, or him already.
    """
    check_not_self(follower_id, followee_id)
    check_user_seen(stands)
    if not has_room:
        raise FailedPrecondition(
            f"at most {followees_max} accounts can be followed",
            reason="FOLLOWEES_LIMIT",
        )
