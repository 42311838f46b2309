"""The model of the product says what the guarantees say."""

from google.protobuf.message import Message

from millrace.oracle import Oracle
from social.log.v1 import follows_pb2, likes_pb2, media_pb2, names_pb2, users_pb2


def fed(*events: Message) -> Oracle:
    oracle = Oracle()
    for number, event in enumerate(events, start=1):
        oracle.apply(event, number=number)
    return oracle


def uploaded(media_id: int, author_id: int, request: bytes) -> media_pb2.MediaUploaded:
    return media_pb2.MediaUploaded(media_id=media_id, author_id=author_id, request_id=request)


def followed(follower_id: int, followee_id: int) -> follows_pb2.UserFollowed:
    return follows_pb2.UserFollowed(follower_id=follower_id, followee_id=followee_id)


def unfollowed(follower_id: int, followee_id: int) -> follows_pb2.UserUnfollowed:
    return follows_pb2.UserUnfollowed(follower_id=follower_id, followee_id=followee_id)


def test_a_feed_is_own_and_followees_media_newest_first() -> None:
    oracle = fed(
        uploaded(10, 1, b"a"),
        uploaded(30, 2, b"b"),
        uploaded(20, 3, b"c"),
        followed(1, 2),
    )
    assert oracle.feed(1) == [30, 10]
    assert oracle.feed(2) == [30]
    assert oracle.feed(9) == []


def test_the_last_of_an_edges_events_counts_and_sets_have_no_doubles() -> None:
    oracle = fed(followed(1, 2), followed(1, 2), followed(3, 2), unfollowed(3, 2))
    assert oracle.following[1] == {2}
    assert (oracle.count_followers(2), oracle.count_following(3)) == (1, 0)
    like = likes_pb2.MediaLiked(user_id=1, media_id=9)
    oracle.apply(like, number=9)
    oracle.apply(like, number=10)
    assert oracle.count_likes(9) == 1
    oracle.apply(likes_pb2.MediaUnliked(user_id=1, media_id=9), number=11)
    assert oracle.count_likes(9) == 0


def test_a_request_publishes_once_and_a_clash_leaves_the_request_free() -> None:
    oracle = fed(
        uploaded(10, 1, b"a"),
        uploaded(11, 1, b"a"),  # the same request under another id
        uploaded(10, 2, b"b"),  # the id is taken
        uploaded(12, 2, b"b"),
    )
    assert oracle.timeline(1) == [10]
    assert oracle.timeline(2) == [12]
    assert oracle.uploads == {(1, b"a"): 10, (2, b"b"): 12}


def test_only_its_author_deletes_an_item_and_it_stays_deleted() -> None:
    oracle = fed(
        uploaded(10, 1, b"a"),
        media_pb2.MediaDeleted(media_id=10, author_id=2),
    )
    assert oracle.count_media(1) == 1
    oracle.apply(media_pb2.MediaDeleted(media_id=10, author_id=1), number=3)
    oracle.apply(uploaded(10, 1, b"z"), number=4)
    assert oracle.feed(1) == []
    assert oracle.media[10].deleted


def test_the_first_claim_has_the_name() -> None:
    name = b"n" * 32
    oracle = fed(
        names_pb2.NameClaimed(name_key=name, user_id=1),
        names_pb2.NameClaimed(name_key=name, user_id=2),
    )
    text = users_pb2.RegistrationText(handle="ana").SerializeToString()
    for user_id, claim in ((1, 1), (2, 2)):
        event = users_pb2.UserRegistered(user_id=user_id, name_key=name, claim_number=claim)
        oracle.apply(event, number=user_id, text=text)
    assert (oracle.handle(1), oracle.handle(2)) == ("ana", "")
    profile = users_pb2.ProfileText(display_name="Ana", bio="hi").SerializeToString()
    oracle.apply(users_pb2.ProfileUpdated(user_id=1), number=5, text=profile)
    assert (oracle.users[1].display_name, oracle.users[1].bio) == ("Ana", "hi")
