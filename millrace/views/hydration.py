"""From ids to what a client draws: media with author, counts and the viewer's like; comments.

Batched: a page of n ids costs the same few reads as one id. What the views no longer hold, or
the policy hides, is left out.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from millrace import policy
from millrace.relations.entity import READ_KEYS_MAX
from millrace.stores.port import ViewStore
from millrace.views import comments, media, users
from millrace.views.comments import COMMENTS_BY_MEDIA, CommentRow
from millrace.views.follows import FOLLOWS
from millrace.views.likes import LIKES
from millrace.views.media import MEDIA, MEDIA_BY_AUTHOR, MediaRow
from millrace.views.users import USERS, UserRow


@dataclass(frozen=True, slots=True)
class UserItem:
    """A user with the counts that a profile shows."""

    row: UserRow
    followers: int
    following: int
    media: int


@dataclass(frozen=True, slots=True)
class MediaItem:
    """A media item as drawn for one viewer."""

    row: MediaRow
    author: UserRow
    likes: int
    comments: int
    viewer_likes: bool


@dataclass(frozen=True, slots=True)
class CommentItem:
    """A comment as drawn. `mentioned`: those who stand of the row's `mentioned_ids`."""

    row: CommentRow
    author: UserRow
    mentioned: frozenset[int]


async def user_items(store: ViewStore, user_ids: Sequence[int]) -> dict[int, UserItem]:
    """At most 100 users by id."""
    rows, followers, following, media_counts = await asyncio.gather(
        users.by_id(store, user_ids),
        FOLLOWS.inverse_count(store, user_ids),
        FOLLOWS.count(store, user_ids),
        MEDIA_BY_AUTHOR.count(store, user_ids),
    )
    return {
        user_id: UserItem(row, followers[user_id], following[user_id], media_counts[user_id])
        for user_id, row in rows.items()
    }


async def media_items(
    store: ViewStore, media_ids: Sequence[int], viewer_id: int
) -> dict[int, MediaItem]:
    """At most 100 media items by id."""
    rows, likes, said, liked = await asyncio.gather(
        media.by_id(store, media_ids),
        LIKES.count(store, media_ids),
        COMMENTS_BY_MEDIA.count(store, media_ids),
        LIKES.among(store, [(media_id, viewer_id) for media_id in media_ids]),
    )
    authors = await users.by_id(store, {row.author_id for row in rows.values()})
    return {
        media_id: MediaItem(
            row,
            authors[row.author_id],
            likes[media_id],
            said[media_id],
            (media_id, viewer_id) in liked,
        )
        for media_id, row in rows.items()
        if policy.sees_media(policy.MediaFacts(row.author_id, row.author_id in authors))
    }


async def media_facts(store: ViewStore, media_ids: Sequence[int]) -> dict[int, policy.MediaFacts]:
    """What the policy asks about media that stand, by id. At most 100."""
    # Not users.by_id: what the policy asks needs no handles, hence no second read.
    found = await MEDIA.linked(
        store, [(media_id,) for media_id in media_ids], "author_id", USERS, "deactivated"
    )
    return {
        cast(int, key[0]): policy.MediaFacts(
            cast(int, author_id), author_stands=deactivated is False
        )
        for key, (author_id, deactivated) in found.items()
    }


async def comment_items(store: ViewStore, comment_ids: Sequence[int]) -> dict[int, CommentItem]:
    """At most 100 comments by id; those of hidden authors are left out."""
    rows = await comments.by_id(store, comment_ids)
    ids = {row.author_id for row in rows.values()}
    ids.update(user_id for row in rows.values() for user_id in row.mentioned_ids if user_id)
    found = await _many_users(store, ids)
    return {
        comment_id: CommentItem(
            row,
            found[row.author_id],
            frozenset(row.mentioned_ids) & found.keys(),
        )
        for comment_id, row in rows.items()
        if row.author_id in found
    }


async def comment_facts(
    store: ViewStore, comment_id: int, media_id: int
) -> policy.CommentFacts | None:
    """What the policy asks about a comment under this item, deleted or not."""
    row = (await comments.by_id_deleted_too(store, [comment_id])).get(comment_id)
    if row is None or row.media_id != media_id:
        return None
    stands = row.author_id in await users.by_id(store, [row.author_id])
    return policy.CommentFacts(row.author_id, author_stands=stands, deleted=row.deleted)


async def _many_users(store: ViewStore, user_ids: Iterable[int]) -> dict[int, UserRow]:
    """Any number. One read after another: a page of mentions must not take all connections."""
    ids = list(user_ids)
    found: dict[int, UserRow] = {}
    for start in range(0, len(ids), READ_KEYS_MAX):
        found |= await users.by_id(store, ids[start : start + READ_KEYS_MAX])
    return found


async def user_rows(store: ViewStore, user_ids: Sequence[int]) -> list[UserRow]:
    """At most 100 users in the order of their ids given; who does not stand is left out."""
    rows = await users.by_id(store, user_ids)
    return [rows[user_id] for user_id in user_ids if user_id in rows]
