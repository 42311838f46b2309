"""Edges read many at once are what `project` makes of them one by one, or are left to it."""

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.log.codec import decode
from millrace.log.partitioner import key_of
from millrace.log.port import NO_HEADERS, ORDER_HEADER, TRACE_HEADER, Record
from millrace.relations import PlainEdges, View
from millrace.stores.edge_columns import EdgeColumns
from millrace.views import VIEWS, follows, likes, saves
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed, UserUnfollowed
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from social.log.v1.saves_pb2 import MediaSaved, MediaUnsaved, SavesEvent
from streams.plain_edges import columns_of

LIKES_OF_ALL = [
    lambda a, b, at: LikesEvent(liked=MediaLiked(user_id=a, media_id=b, at_ms=at)),
    lambda a, b, at: LikesEvent(unliked=MediaUnliked(user_id=a, media_id=b, at_ms=at)),
]
FOLLOWS_OF_ALL = [
    lambda a, b, at: FollowsEvent(followed=UserFollowed(follower_id=a, followee_id=b, at_ms=at)),
    lambda a, b, at: FollowsEvent(
        unfollowed=UserUnfollowed(follower_id=a, followee_id=b, at_ms=at)
    ),
]
SAVES_OF_ALL = [
    lambda a, b, at: SavesEvent(saved=MediaSaved(user_id=a, media_id=b, at_ms=at)),
    lambda a, b, at: SavesEvent(unsaved=MediaUnsaved(user_id=a, media_id=b, at_ms=at)),
]
KINDS: dict[str, list[Any]] = {
    "likes": LIKES_OF_ALL,
    "follows": FOLLOWS_OF_ALL,
    "saves": SAVES_OF_ALL,
}
PLAIN = (likes.VIEW, follows.VIEW, saves.VIEW)

ids = st.integers(-1, 3) | st.integers(1, 2**63 - 1)
times = st.integers(0, 2**62)
fine_events = st.tuples(st.sampled_from([0, 1]), st.integers(1, 9), st.integers(10, 2**62), times)
events = st.tuples(st.sampled_from([0, 1]), ids, ids, times)
faults = st.sampled_from(["", "", "key", "long key", "bytes", "none", "empty", "order", "traced"])


def record(view: View, number: int, event: tuple[int, int, int, int], fault: str = "") -> Record:
    kind, owner, other, at_ms = event
    message: Message = KINDS[view.name][kind](owner, other, at_ms)
    key = key_of(abs(owner) + (fault == "key")) + b"0" * (fault == "long key")
    value = {"bytes": b"\xff\xff", "none": None, "empty": b""}.get(
        fault, message.SerializeToString()
    )
    headers = {
        "order": {ORDER_HEADER: b"\x01"},
        "traced": {TRACE_HEADER: b"0af7651916cd43dd8448eb211c80319c"},
    }.get(fault, NO_HEADERS)
    return Record(view.topics[0], number % 3, number, key, value, 5, headers)


def at_once(view: View, records: list[Record]) -> EdgeColumns | None:
    assert view.plain is not None
    return columns_of(view.plain, view.topics[0], records)


def one_by_one(view: View, records: Iterable[Record]) -> list[Any]:
    return [change for one in records for change in view.project(decode(one))]


def assert_same(view: View, records: list[Record], columns: EdgeColumns) -> None:
    expected = EdgeColumns.of(one_by_one(view, records))
    assert [one.tolist() for one in columns] == [one.tolist() for one in expected]


@pytest.mark.parametrize("view", PLAIN, ids=lambda view: view.name)
@settings(deadline=None)
@given(some=st.lists(st.tuples(events, faults), min_size=1, max_size=8))
def test_what_is_read_at_once_is_what_project_makes(view: View, some: list[Any]) -> None:
    """Where one record is poison, all are left to `project`."""
    records = [record(view, number, *one) for number, one in enumerate(some, 1)]
    columns = at_once(view, records)
    if columns is not None:
        assert_same(view, records, columns)


@pytest.mark.parametrize("view", PLAIN, ids=lambda view: view.name)
@settings(deadline=None)
@given(some=st.lists(fine_events, min_size=1, max_size=8), traced=st.booleans())
def test_plain_records_are_read_at_once(view: View, some: list[Any], traced: bool) -> None:
    fault = "traced" if traced else ""
    records = [record(view, number, one, fault) for number, one in enumerate(some, 1)]
    columns = at_once(view, records)
    assert columns is not None
    assert_same(view, records, columns)


def test_another_topic_and_another_kind_are_left_to_project() -> None:
    one = record(likes.VIEW, 1, (0, 2, 3, 4))
    only_unlikes = PlainEdges(likes.LIKES, begins="unliked", ends="unliked")
    assert at_once(likes.VIEW, [one]) is not None
    assert at_once(likes.VIEW, [one._replace(topic="follows")]) is None
    assert columns_of(only_unlikes, "likes", [one]) is None


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_only_a_view_of_one_topic_and_one_edge_is_plain(view: View) -> None:
    if view.plain is not None:
        assert len(view.topics) == 1
        assert view.edges == (view.plain.edge,)
        assert not view.entities
