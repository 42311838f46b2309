"""Views that are declared and nothing else: what their events mean, and what is no declaration."""

from typing import Any

import pytest

from millrace.errors import Bug, PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.relations import Edge, plain_view
from millrace.stores.changes import EdgeChange
from social.log.v1 import follows_pb2, likes_pb2

LIKES = Edge("hearts", source="media_id", target="user_id", owner="target")
VIEW = plain_view(LIKES, topic="likes", begins="liked", ends="unliked")


def event(message: Any, owner: int) -> Event:
    return Event("likes", 0, number=7, order=5, key=key_of(owner), message=message)


@pytest.mark.parametrize(
    ("kind", "live"), [(likes_pb2.MediaLiked, True), (likes_pb2.MediaUnliked, False)]
)
def test_a_pair_begins_and_ends(kind: Any, live: bool) -> None:
    changes = VIEW.project(event(kind(user_id=3, media_id=9, at_ms=11), 3))
    assert changes == [EdgeChange("hearts", 9, 3, live, number=7, order=5, at_ms=11)]


@pytest.mark.parametrize(
    ("message", "owner", "why"),
    [
        (likes_pb2.MediaLiked(user_id=3, media_id=9), 9, "owner"),
        (likes_pb2.MediaLiked(user_id=3), 3, "two ids"),
        (likes_pb2.MediaLiked(user_id=-3, media_id=9), 9, "two ids"),
        (follows_pb2.UserFollowed(follower_id=3, followee_id=9), 3, "means nothing to hearts"),
    ],
)
def test_what_makes_no_sense_is_poison(message: Any, owner: int, why: str) -> None:
    with pytest.raises(PoisonEvent, match=why):
        VIEW.project(event(message, owner))


def test_the_source_may_be_the_owner() -> None:
    edge = Edge("watched", source="user_id", target="media_id", owner="source")
    view = plain_view(edge, topic="likes", begins="liked", ends="unliked")
    (change,) = view.project(event(likes_pb2.MediaLiked(user_id=3, media_id=9), 3))
    assert isinstance(change, EdgeChange)
    assert (change.source, change.target) == (3, 9)


@pytest.mark.parametrize(
    ("edge", "topic", "begins", "ends", "why"),
    [
        (LIKES, "likes", "liked", "liked", "same kind"),
        (LIKES, "likes", "loved", "unliked", "no kind of event called loved"),
        (LIKES, "follows", "followed", "unfollowed", "int64 called media_id"),
        (LIKES, "progress", "liked", "unliked", "no kind of event"),
    ],
)
def test_events_that_do_not_fit_are_no_view(
    edge: Edge, topic: str, begins: str, ends: str, why: str
) -> None:
    with pytest.raises(Bug, match=why):
        plain_view(edge, topic=topic, begins=begins, ends=ends)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"owner": "user_id"}, "`source` or `target`"),
        ({"owner": "source", "inverse_counted": True}, "of an inverse only"),
        ({"owner": "source", "limit": -1}, "0 \\(none\\) or above"),
    ],
)
def test_declarations_that_cannot_be_meant(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(Bug, match=why):
        Edge("pairs", source="a_id", target="b_id", **wrong)
