"""Who liked a media item, and how many.

Source:  MediaLiked, MediaUnliked (topic likes, key liker, the owner)
Store:   postgres likes (media_id, user_id), likes_by_user, likes_count; position in the same
         transaction
Cache:   none yet
Bound:   pages of at most 100
Replay:  idempotent: rows by key, counts by rows changed
Stale:   by projection lag; never older than the caller's position
Not:     newest-first
"""

from collections.abc import Sequence

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Edge, PlainEdges, View
from millrace.stores.changes import Change
from social.log.v1 import likes_pb2 as log

LIKES = Edge(
    "likes",
    source="media_id",
    target="user_id",
    owner="target",
    counted=True,
    inverse="likes_by_user",
)


# Made once: a union in the test itself is made at each event.
_KINDS = (log.MediaLiked, log.MediaUnliked)


def project(event: Event) -> Sequence[Change]:
    message = event.message
    if not isinstance(message, _KINDS):
        raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to likes")
    user_id, media_id = message.user_id, message.media_id
    if user_id <= 0 or media_id <= 0:
        raise PoisonEvent("a like needs a user and a media item")
    if event.key != key_of(user_id):
        raise PoisonEvent("the record's key is not the event's owner")
    if isinstance(message, log.MediaLiked):
        return [LIKES.begin(event, media_id, user_id, message.at_ms)]
    return [LIKES.end(event, media_id, user_id, message.at_ms)]


VIEW = View(
    "likes",
    topics=("likes",),
    project=project,
    edges=(LIKES,),
    plain=PlainEdges(LIKES, begins="liked", ends="unliked"),
)
