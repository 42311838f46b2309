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

from millrace.relations import Edge, plain_view

LIKES = Edge(
    "likes",
    source="media_id",
    target="user_id",
    owner="target",
    counted=True,
    inverse="likes_by_user",
    cache_ttl_s=3_600,
)

VIEW = plain_view(LIKES, topic="likes", begins="liked", ends="unliked")
