"""What was said under media items, and each item's timeline of it.

Source:  CommentAdded, CommentDeleted (topic comments, key the comment's author, the owner)
Store:   postgres comments (comment_id), comments_requests (author_id, request_id),
         comments_by_media (media_id, comment_id), comments_by_media_count; position in the same
         transaction
Cache:   none yet
Bound:   100 keys a read, pages of at most 100
Replay:  idempotent: the first event of (author, request) that finds its id free counts
Stale:   by projection lag; never older than the caller's position
Not:     who may see or delete a comment (policy), what "@handle"s mean (services)
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Entity, Timeline, View
from millrace.stores.changes import Change, Claim, Scalar
from millrace.stores.fold import Row
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column
from social.log.v1 import comments_pb2 as log

COMMENTS = Entity(
    "comments",
    key=(Column("comment_id"),),
    columns=(
        Column("media_id"),
        Column("author_id"),
        Column("text", "text"),
        Column("mentioned_ids", "bytes"),
        Column("added_number"),
        Column("added_ms"),
    ),
    claimed=True,
    cache_ttl_s=3_600,
    policy=True,
)
COMMENTS_BY_MEDIA = Timeline(
    "comments_by_media", owner="media_id", item="comment_id", counted=True, cache_ttl_s=3_600
)


@dataclass(frozen=True, slots=True)
class CommentRow:
    """`mentioned_ids`: as in the event, one for each different handle in the text, 0 for nobody.
    `deleted` rows are kept, so that a deletion can be asked for again.
    """

    comment_id: int
    media_id: int
    author_id: int
    text: str
    mentioned_ids: tuple[int, ...]
    added_number: int
    added_ms: int
    deleted: bool


def project(event: Event) -> Sequence[Change]:
    message = event.message
    if isinstance(message, log.CommentAdded):
        return [_added(event, message)]
    if isinstance(message, log.CommentDeleted):
        _check(event, message)
        comment_id, media_id = message.comment_id, message.media_id
        gone = COMMENTS_BY_MEDIA.end(event, media_id, comment_id, message.at_ms)
        guard = {"author_id": message.author_id, "media_id": media_id}
        return [COMMENTS.end(event, (comment_id,), guard, then=(gone,))]
    raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to comments")


def _added(event: Event, message: log.CommentAdded) -> Change:
    _check(event, message)
    text = log.CommentText.FromString(event.text)
    values: dict[str, Scalar] = {
        "media_id": message.media_id,
        "author_id": message.author_id,
        "text": text.text,
        "mentioned_ids": _packed(message.mentioned_ids),
        "added_number": event.number,
        "added_ms": message.at_ms,
    }
    shown = COMMENTS_BY_MEDIA.begin(event, message.media_id, message.comment_id, message.at_ms)
    return COMMENTS.create(
        event,
        (message.comment_id,),
        values,
        at_ms=message.at_ms,
        claim=Claim(message.author_id, message.request_id, message.body_sha256),
        then=(shown,),
    )


def _check(event: Event, message: log.CommentAdded | log.CommentDeleted) -> None:
    if message.author_id <= 0 or event.key != key_of(message.author_id):
        raise PoisonEvent("the record's key is not the event's owner")
    if message.comment_id <= 0 or message.media_id <= 0:
        raise PoisonEvent("a comment needs an id and a media item")


def _packed(ids: Sequence[int]) -> bytes:
    return struct.pack(f">{len(ids)}q", *ids)


def _unpacked(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(packed) // 8}q", packed)


async def by_id(store: ViewStore, comment_ids: Iterable[int]) -> dict[int, CommentRow]:
    """Comments that stand, by id. At most 100."""
    rows = await by_id_deleted_too(store, comment_ids)
    return {comment_id: row for comment_id, row in rows.items() if not row.deleted}


async def by_id_deleted_too(store: ViewStore, comment_ids: Iterable[int]) -> dict[int, CommentRow]:
    """Comments by id. At most 100."""
    keys = [(comment_id,) for comment_id in dict.fromkeys(comment_ids)]
    rows = await COMMENTS.get_many_ended_too(store, keys)
    return {cast(int, key[0]): _comment_row(cast(int, key[0]), row) for key, row in rows.items()}


def _comment_row(comment_id: int, row: Row) -> CommentRow:
    values = row.values
    return CommentRow(
        comment_id=comment_id,
        media_id=cast(int, values["media_id"]),
        author_id=cast(int, values["author_id"]),
        text=cast(str, values["text"]),
        mentioned_ids=_unpacked(cast(bytes, values["mentioned_ids"])),
        added_number=cast(int, values["added_number"]),
        added_ms=cast(int, values["added_ms"]),
        deleted=row.ended,
    )


VIEW = View(
    "comments",
    topics=("comments",),
    project=project,
    entities=(COMMENTS,),
    edges=(COMMENTS_BY_MEDIA,),
)
