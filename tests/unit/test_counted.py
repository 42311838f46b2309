"""Which events a model counts that takes the log one after the other."""

from typing import Any

import pytest

from millrace.log.codec import Event
from millrace.log.counted import Counted
from social.log.v1 import follows_pb2, likes_pb2, saves_pb2

PAIRS: list[tuple[Any, Any]] = [
    (
        follows_pb2.UserFollowed(follower_id=1, followee_id=2),
        follows_pb2.UserUnfollowed(follower_id=1, followee_id=2),
    ),
    (
        likes_pb2.MediaLiked(user_id=1, media_id=2),
        likes_pb2.MediaUnliked(user_id=1, media_id=2),
    ),
    (
        saves_pb2.MediaSaved(user_id=1, media_id=2),
        saves_pb2.MediaUnsaved(user_id=1, media_id=2),
    ),
]


def event(message: Any, number: int, order: int = 0) -> Event:
    return Event("t", 0, number, order or number, b"key", message)


@pytest.mark.parametrize(("begins", "ends"), PAIRS)
def test_a_retried_event_counts_only_where_nothing_came_after_it(begins: Any, ends: Any) -> None:
    counted = Counted({("t", 0, 1)})
    assert not counted.counts(event(begins, 1))
    assert counted.counts(event(begins, 2, order=1))
    counted = Counted({("t", 0, 1)})
    assert not counted.counts(event(begins, 1))
    assert counted.counts(event(ends, 2))
    assert not counted.counts(event(begins, 3, order=1))
