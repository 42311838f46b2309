"""What was uploaded, and each author's timeline.

Source:  MediaUploaded, CaptionEdited, MediaDeleted (topic media, key author, the owner)
Store:   postgres media (media_id), media_requests (author_id, request_id), media_by_author
         (author_id, media_id), media_by_author_count; position in the same transaction
Cache:   none yet
Bound:   100 keys a read, pages of at most 100
Replay:  idempotent: the first event of (author, request) that finds its id free counts
Stale:   by projection lag; never older than the caller's position
Not:     bytes (the object store), likes (likes)
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Entity, Timeline, View
from millrace.stores.changes import Change, Claim
from millrace.stores.fold import Row
from millrace.stores.port import ViewStore
from millrace.stores.schema import Column
from social.log.v1 import media_pb2 as log

MEDIA = Entity(
    "media",
    key=(Column("media_id"),),
    columns=(
        Column("author_id"),
        Column("kind", "int"),
        Column("width", "int"),
        Column("height", "int"),
        Column("duration_ms", "int"),
        Column("object_key", "text"),
        Column("size_bytes"),
        Column("content_sha256", "bytes"),
        Column("caption", "text"),
        Column("uploaded_number"),
        Column("uploaded_ms"),
    ),
    claimed=True,
    cache_ttl_s=3_600,
    policy=True,
)
MEDIA_BY_AUTHOR = Timeline(
    "media_by_author", owner="author_id", item="media_id", counted=True, cache_ttl_s=3_600
)


@dataclass(frozen=True, slots=True)
class MediaRow:
    """`kind` is a social.log.v1.MediaKind; `uploaded_number` is the number of its event."""

    media_id: int
    author_id: int
    kind: int
    width: int
    height: int
    duration_ms: int
    object_key: str
    size_bytes: int
    content_sha256: bytes
    caption: str
    uploaded_number: int
    uploaded_ms: int


def project(event: Event) -> Sequence[Change]:
    message = event.message
    if isinstance(message, log.MediaUploaded):
        return [_uploaded(event, message)]
    if isinstance(message, log.MediaDeleted):
        _owned_by(event, message.author_id)
        media_id, author_id = message.media_id, message.author_id
        gone = MEDIA_BY_AUTHOR.end(event, author_id, media_id, message.at_ms)
        return [MEDIA.end(event, (media_id,), {"author_id": author_id}, then=(gone,))]
    if isinstance(message, log.CaptionEdited):
        _owned_by(event, message.author_id)
        values = {"caption": log.CaptionText.FromString(event.text).caption}
        guard = {"author_id": message.author_id}
        return [MEDIA.update(event, (message.media_id,), values, guard)]
    raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to media")


def _uploaded(event: Event, message: log.MediaUploaded) -> Change:
    _owned_by(event, message.author_id)
    if message.media_id <= 0:
        raise PoisonEvent("a media item without an id")
    text = log.CaptionText.FromString(event.text)
    shown = MEDIA_BY_AUTHOR.begin(event, message.author_id, message.media_id, message.at_ms)
    return MEDIA.create(
        event,
        (message.media_id,),
        {
            "author_id": message.author_id,
            "kind": int(message.kind),
            "width": message.width,
            "height": message.height,
            "duration_ms": message.duration_ms,
            "object_key": message.object_key,
            "size_bytes": message.size_bytes,
            "content_sha256": message.content_sha256,
            "caption": text.caption,
            "uploaded_number": event.number,
            "uploaded_ms": message.at_ms,
        },
        at_ms=message.at_ms,
        claim=Claim(message.author_id, message.request_id, message.body_sha256),
        then=(shown,),
    )


def _owned_by(event: Event, author_id: int) -> None:
    if author_id <= 0 or event.key != key_of(author_id):
        raise PoisonEvent("the record's key is not the event's owner")


async def by_id(store: ViewStore, media_ids: Iterable[int]) -> dict[int, MediaRow]:
    """Media that stand, by id. At most 100."""
    rows = await MEDIA.get_many(store, [(media_id,) for media_id in dict.fromkeys(media_ids)])
    return {cast(int, key[0]): _media_row(cast(int, key[0]), row) for key, row in rows.items()}


async def scan(store: ViewStore) -> AsyncIterator[MediaRow]:
    """All media that stand, by id; for checks."""
    async for key, row in store.scan_rows(MEDIA.table):
        if not row.ended:
            yield _media_row(cast(int, key[0]), row)


def _media_row(media_id: int, row: Row) -> MediaRow:
    values = row.values
    return MediaRow(
        media_id=media_id,
        author_id=cast(int, values["author_id"]),
        kind=cast(int, values["kind"]),
        width=cast(int, values["width"]),
        height=cast(int, values["height"]),
        duration_ms=cast(int, values["duration_ms"]),
        object_key=cast(str, values["object_key"]),
        size_bytes=cast(int, values["size_bytes"]),
        content_sha256=cast(bytes, values["content_sha256"]),
        caption=cast(str, values["caption"]),
        uploaded_number=cast(int, values["uploaded_number"]),
        uploaded_ms=cast(int, values["uploaded_ms"]),
    )


VIEW = View(
    "media", topics=("media",), project=project, entities=(MEDIA,), edges=(MEDIA_BY_AUTHOR,)
)
