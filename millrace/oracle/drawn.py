"""What a viewer is shown of a user, an item, a comment. Not: when they were made."""

import re

from millrace.oracle.state import Oracle
from social.v1 import comments_pb2, media_pb2, users_pb2


def summary(state: Oracle, user_id: int) -> users_pb2.UserSummary:
    return users_pb2.UserSummary(
        id=user_id,
        handle=state.handle(user_id),
        display_name=state.users[user_id].display_name,
    )


def user(state: Oracle, user_id: int) -> users_pb2.User:
    """Counts count the sets, hidden rows included."""
    return users_pb2.User(
        id=user_id,
        handle=state.handle(user_id),
        display_name=state.users[user_id].display_name,
        bio=state.users[user_id].bio,
        followers_count=state.count_followers(user_id),
        following_count=state.count_following(user_id),
        media_count=state.count_media(user_id),
    )


def item(state: Oracle, viewer_id: int, media_id: int) -> media_pb2.MediaItem:
    held = state.media[media_id]
    return media_pb2.MediaItem(
        id=media_id,
        author=summary(state, held.author_id),
        caption=held.caption,
        kind=media_pb2.MediaKind.ValueType(held.kind),
        width=held.width,
        height=held.height,
        size_bytes=held.size_bytes,
        sha256=held.content_sha256,
        likes_count=state.count_likes(media_id),
        comments_count=state.count_comments(media_id),
        viewer_likes=viewer_id in state.likers[media_id],
    )


def handles_in(text: str) -> list[str]:
    """Each different "@handle" once, as it is first written. Words apart by blanks only."""
    found: dict[str, str] = {}
    for handle in re.findall(r"(?<!\S)@([A-Za-z0-9_.]{3,30})(?!\S)", text):
        found.setdefault(handle.lower(), handle)
    return list(found.values())


def comment(state: Oracle, comment_id: int) -> comments_pb2.Comment:
    held = state.comments[comment_id]
    mentioned = zip(handles_in(held.text), held.mentioned_ids, strict=True)
    return comments_pb2.Comment(
        id=comment_id,
        media_id=held.media_id,
        author=summary(state, held.author_id),
        text=held.text,
        mentions=[
            comments_pb2.Mention(handle=handle, user_id=user_id)
            for handle, user_id in mentioned
            if state.stands(user_id)
        ],
    )
