"""From what the views hold to what a client draws: the last step of every read."""

from google.protobuf.timestamp_pb2 import Timestamp

from millrace.views.hydration import CommentItem, MediaItem, UserItem
from millrace.views.users import UserRow
from services import mentions
from social.v1 import comments_pb2, media_pb2, users_pb2


def timestamp(milliseconds: int) -> Timestamp:
    """Milliseconds since 1970 as a Timestamp."""
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def user(item: UserItem) -> users_pb2.User:
    return users_pb2.User(
        id=item.row.user_id,
        handle=item.row.handle,
        display_name=item.row.display_name,
        bio=item.row.bio,
        followers_count=item.followers,
        following_count=item.following,
        media_count=item.media,
        created_at=timestamp(item.row.registered_ms),
    )


def user_summary(row: UserRow) -> users_pb2.UserSummary:
    return users_pb2.UserSummary(id=row.user_id, handle=row.handle, display_name=row.display_name)


def media_item(item: MediaItem) -> media_pb2.MediaItem:
    row = item.row
    return media_pb2.MediaItem(
        id=row.media_id,
        author=user_summary(item.author),
        caption=row.caption,
        # The log's vocabulary and the contract number their kinds alike; a test holds them so.
        kind=media_pb2.MediaKind.ValueType(row.kind),
        width=row.width,
        height=row.height,
        size_bytes=row.size_bytes,
        duration_ms=row.duration_ms,
        sha256=row.content_sha256,
        created_at=timestamp(row.uploaded_ms),
        likes_count=item.likes,
        comments_count=item.comments,
        viewer_likes=item.viewer_likes,
    )


def comment(item: CommentItem) -> comments_pb2.Comment:
    row = item.row
    return comments_pb2.Comment(
        id=row.comment_id,
        media_id=row.media_id,
        author=user_summary(item.author),
        text=row.text,
        created_at=timestamp(row.added_ms),
        mentions=mentions.standing(row.text, row.mentioned_ids, item.mentioned),
    )
