"""Which events count for a model that takes the log one event after the other, as the oracle does.

What became a dead letter does not, as the view passed it over. One that was tried again counts by
its old place: only where nothing came after it on the same edge.

Not: views, which order within each row by themselves.
"""

from collections.abc import Container

from google.protobuf.message import Message

from millrace.log.codec import Event
from social.log.v1 import follows_pb2, likes_pb2, saves_pb2, users_pb2


class Counted:
    """`dead`: (topic, partition, number) of every dead letter. Memory: the edges that have one."""

    def __init__(self, dead: Container[tuple[str, int, int]]) -> None:
        self._dead = dead
        # Of the last event that counted.
        self._orders: dict[tuple[object, ...], int] = {}

    def counts(self, event: Event) -> bool:
        """Asked once for each event, in the order of its partition."""
        edge = _edge(event.message)
        if (event.topic, event.partition, event.number) in self._dead:
            if edge:
                self._orders.setdefault(edge, 0)
            return False
        if edge in self._orders:
            if event.order <= self._orders[edge]:
                return False
            self._orders[edge] = event.order
        return True


def _edge(message: Message) -> tuple[object, ...] | None:
    """What the last event of decides, for events that set a state."""
    match message:
        case follows_pb2.UserFollowed() | follows_pb2.UserUnfollowed():
            return "follows", message.follower_id, message.followee_id
        case likes_pb2.MediaLiked() | likes_pb2.MediaUnliked():
            return "likes", message.media_id, message.user_id
        case saves_pb2.MediaSaved() | saves_pb2.MediaUnsaved():
            return "saves", message.user_id, message.media_id
        # A row has one order: a newer profile leaves an older deactivation out, too.
        case users_pb2.UserDeactivated() | users_pb2.UserReactivated() | users_pb2.ProfileUpdated():
            return "users", message.user_id
    return None
