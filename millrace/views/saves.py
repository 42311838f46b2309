"""What a user has saved for himself, and how much.

Source:  MediaSaved, MediaUnsaved (topic saves, key user, the owner)
Store:   postgres saves (user_id, media_id), saves_count; position in the same transaction
Cache:   none yet
Bound:   pages of at most 100
Replay:  idempotent: rows by key, counts by rows changed
Stale:   by projection lag; never older than the caller's position
Not:     who saved an item: that is nobody's business
"""

from millrace.relations import Edge, plain_view

SAVES = Edge(
    "saves", source="user_id", target="media_id", owner="source", counted=True, newest_first=True
)

VIEW = plain_view(SAVES, topic="saves", begins="saved", ends="unsaved")
