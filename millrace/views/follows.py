"""Who follows whom, and how many.

Source:  UserFollowed, UserUnfollowed (topic follows, key follower, the owner)
Store:   postgres follows (follower_id, followee_id), followers (the inverse), their counts;
         position in the same transaction
Cache:   none yet
Bound:   pages of at most 100; all followees of one user (at most 7,500) for the feed
Replay:  idempotent: rows by key, counts by rows changed
Stale:   by projection lag; never older than the caller's position
Not:     blocks, mutes, requests
"""

from collections.abc import Sequence

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Edge, PlainEdges, View
from millrace.stores.changes import Change
from millrace.stores.port import EdgeRow, ViewStore
from social.log.v1 import follows_pb2 as log

FOLLOWEES_MAX = 7_500

FOLLOWS = Edge(
    "follows",
    source="follower_id",
    target="followee_id",
    owner="source",
    counted=True,
    inverse="followers",
    inverse_counted=True,
    limit=FOLLOWEES_MAX,
    cache_ttl_s=3_600,
    cached_inverse=True,
)


# Made once: a union in the test itself is made at each event.
_KINDS = (log.UserFollowed, log.UserUnfollowed)


def project(event: Event) -> Sequence[Change]:
    message = event.message
    if not isinstance(message, _KINDS):
        raise PoisonEvent(f"{message.DESCRIPTOR.name} means nothing to follows")
    follower, followee = message.follower_id, message.followee_id
    if follower <= 0 or followee <= 0 or follower == followee:
        raise PoisonEvent("an edge needs two users")
    if event.key != key_of(follower):
        raise PoisonEvent("the record's key is not the event's owner")
    if isinstance(message, log.UserFollowed):
        return [FOLLOWS.begin(event, follower, followee, message.at_ms)]
    return [FOLLOWS.end(event, follower, followee, message.at_ms)]


async def followees(store: ViewStore, user_id: int) -> list[EdgeRow]:
    """Everybody whom a user follows, by id, with the edges' versions. At most `FOLLOWEES_MAX`
    and the few that slipped in while the limit was checked elsewhere.
    """
    return await store.page(FOLLOWS.table, user_id, limit=2 * FOLLOWEES_MAX)


VIEW = View(
    "follows",
    topics=("follows",),
    project=project,
    edges=(FOLLOWS,),
    plain=PlainEdges(FOLLOWS, begins="followed", ends="unfollowed"),
)
