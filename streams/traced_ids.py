"""Which event a person means: by its id, or by what it created (`media:ID`, `comment:ID`,
`user:ID`), or by the request that did (`request:USER_ID/REQUEST_ID`).
"""

from typing import cast
from uuid import UUID

from millrace.errors import InvalidRequest, NotFound
from millrace.log.event_id import EventId, event_id
from millrace.log.partitioner import partition_of, partition_of_owner
from millrace.relations import Entity
from millrace.stores.port import ViewStore
from millrace.views import comments, media, users

FORMS = "topic/partition/number, media:ID, comment:ID, user:ID or request:USER_ID/REQUEST_ID"
# Whose requests the views remember.
_CREATED = (("media", media.MEDIA), ("comment", comments.COMMENTS))


async def meant(views: ViewStore, text: str, log_partitions: int) -> EventId:
    """A user's event is the claim of the name that he has: his registration, or a rename.

    Raises InvalidRequest for what is no id, NotFound for what the views do not have.
    """
    kind, colon, number = text.strip().partition(":")
    if not colon:
        return event_id(text, log_partitions)
    if kind == "request":
        kind, number = await _created_by(views, number)
    if not (number.isascii() and number.isdigit()) or kind not in ("media", "comment", "user"):
        raise InvalidRequest(f"{text!r} is no event: {FORMS}")
    found = await _created(views, kind, int(number), log_partitions)
    if found is None:
        raise NotFound(f"the views have no {kind} {number}")
    return found


async def _created_by(views: ViewStore, text: str) -> tuple[str, str]:
    """The kind and id of what a request has created."""
    user_id, _, request = text.partition("/")
    try:
        request_id = UUID(request).bytes
        actor_id = int(user_id)
    except ValueError:
        raise InvalidRequest(f"'request:{text}' is no event: {FORMS}") from None
    for kind, entity in _CREATED:
        claim = await entity.claimed_by(views, actor_id, request_id)
        if claim is not None:
            return kind, str(claim.key)
    raise NotFound(f"the views have no upload and no comment of user {actor_id} by that request")


async def _created(views: ViewStore, kind: str, row_id: int, partitions: int) -> EventId | None:
    if kind == "media":
        return await _row(views, media.MEDIA, "media", row_id, "uploaded_number", partitions)
    if kind == "comment":
        return await _row(views, comments.COMMENTS, "comments", row_id, "added_number", partitions)
    user = (await users.by_id_deactivated_too(views, [row_id])).get(row_id)
    if user is None:
        return None
    partition = partition_of(user.cites.name_key, partitions)
    return EventId("names", partition, user.cites.claim_number)


async def _row(
    views: ViewStore, entity: Entity, topic: str, row_id: int, column: str, partitions: int
) -> EventId | None:
    """Deleted ones, too."""
    row = (await entity.get_many_ended_too(views, [(row_id,)])).get((row_id,))
    if row is None:
        return None
    author_id, number = cast(int, row.values["author_id"]), cast(int, row.values[column])
    return EventId(topic, partition_of_owner(author_id, partitions), number)
