"""The model of the product says what the guarantees say."""

from google.protobuf.message import Message

from millrace.oracle import Oracle
from social.log.v1 import (
    comments_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    names_pb2,
    saves_pb2,
    users_pb2,
)

NAME = b"n" * 32
OTHER_NAME = b"o" * 32


def fed(*events: Message) -> Oracle:
    oracle = Oracle()
    for number, event in enumerate(events, start=1):
        oracle.apply(event, number=number)
    return oracle


def registered(user_id: int, name_key: bytes = b"", claim: int = 0) -> users_pb2.UserRegistered:
    return users_pb2.UserRegistered(user_id=user_id, name_key=name_key, claim_number=claim)


def uploaded(media_id: int, author_id: int, request: bytes) -> media_pb2.MediaUploaded:
    return media_pb2.MediaUploaded(media_id=media_id, author_id=author_id, request_id=request)


def followed(follower_id: int, followee_id: int) -> follows_pb2.UserFollowed:
    return follows_pb2.UserFollowed(follower_id=follower_id, followee_id=followee_id)


def unfollowed(follower_id: int, followee_id: int) -> follows_pb2.UserUnfollowed:
    return follows_pb2.UserUnfollowed(follower_id=follower_id, followee_id=followee_id)


def test_a_feed_is_own_and_followees_media_newest_first() -> None:
    oracle = fed(
        registered(1),
        registered(2),
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


def test_what_is_saved_is_a_set_of_ones_own() -> None:
    save, unsave = saves_pb2.MediaSaved, saves_pb2.MediaUnsaved
    oracle = fed(
        save(user_id=1, media_id=9), save(user_id=1, media_id=9), save(user_id=1, media_id=8),
        save(user_id=2, media_id=9), unsave(user_id=2, media_id=9), unsave(user_id=2, media_id=7),
    )  # fmt: skip
    assert (oracle.saved[1], oracle.saved[2]) == ({8, 9}, set())


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
    oracle = fed(
        names_pb2.NameClaimed(name_key=NAME, user_id=1),
        names_pb2.NameClaimed(name_key=NAME, user_id=2),
    )
    text = users_pb2.RegistrationText(handle="ana").SerializeToString()
    for user_id, claim in ((1, 1), (2, 2)):
        oracle.apply(registered(user_id, NAME, claim), number=user_id, text=text)
    assert (oracle.handle(1), oracle.handle(2)) == ("ana", "")
    profile = users_pb2.ProfileText(display_name="Ana", bio="hi").SerializeToString()
    oracle.apply(users_pb2.ProfileUpdated(user_id=1), number=5, text=profile)
    assert (oracle.users[1].display_name, oracle.users[1].bio) == ("Ana", "hi")


def renamed(number: int, frees: tuple[bytes, int]) -> users_pb2.HandleChanged:
    return users_pb2.HandleChanged(
        user_id=1,
        name_key=OTHER_NAME,
        claim_number=number,
        frees_name_key=frees[0],
        frees_claim_number=frees[1],
    )


def test_a_rename_counts_from_the_claim_that_it_frees_and_a_name_is_freed_by_its_claim() -> None:
    oracle = fed(names_pb2.NameClaimed(name_key=NAME, user_id=1))
    text = users_pb2.RegistrationText(handle="ana").SerializeToString()
    oracle.apply(registered(1, NAME, 1), number=1, text=text)
    oracle.apply(names_pb2.NameClaimed(name_key=OTHER_NAME, user_id=1), number=2)
    anna = users_pb2.HandleText(handle="anna").SerializeToString()
    oracle.apply(renamed(2, (NAME, 9)), number=2, text=anna)
    assert (oracle.handle(1), oracle.holder(NAME), oracle.holder(OTHER_NAME)) == ("ana", 1, None)
    oracle.apply(renamed(2, (NAME, 1)), number=3, text=anna)
    assert (oracle.handle(1), oracle.holder(NAME), oracle.holder(OTHER_NAME)) == ("anna", None, 1)
    freed = names_pb2.NameFreed(name_key=NAME, user_id=1, claim_number=7)
    oracle.apply(freed, number=3)
    assert NAME in oracle.names
    freed.claim_number = 1
    oracle.apply(freed, number=4)
    oracle.apply(names_pb2.NameClaimed(name_key=NAME, user_id=3), number=5)
    assert oracle.names[NAME].user_id == 3


def test_deactivation_hides_and_counts_go_on_counting() -> None:
    oracle = fed(
        registered(1),
        registered(2),
        uploaded(10, 1, b"a"),
        followed(2, 1),
        users_pb2.UserDeactivated(user_id=1),
    )
    assert (oracle.stands(1), oracle.shows(10), oracle.feed(2)) == (False, False, [])
    assert (oracle.count_following(2), oracle.count_media(1)) == (1, 1)
    oracle.apply(users_pb2.UserReactivated(user_id=1), number=9)
    assert (oracle.stands(1), oracle.shows(10), oracle.feed(2)) == (True, True, [10])


def test_the_last_caption_counts_until_the_item_is_deleted() -> None:
    oracle = fed(uploaded(10, 1, b"a"))
    text = media_pb2.CaptionText(caption="new").SerializeToString()
    edited = media_pb2.CaptionEdited(media_id=10, author_id=1)
    oracle.apply(edited, number=2, text=text)
    oracle.apply(media_pb2.CaptionEdited(media_id=10, author_id=2), number=3)
    assert oracle.media[10].caption == "new"
    oracle.apply(edited, number=4)
    assert oracle.media[10].caption == ""


def test_a_request_comments_once_and_a_comment_is_deleted_by_its_names() -> None:
    def added(comment_id: int, author_id: int) -> comments_pb2.CommentAdded:
        return comments_pb2.CommentAdded(
            comment_id=comment_id, media_id=10, author_id=author_id, request_id=b"a"
        )

    oracle = fed(added(5, 1), added(6, 1), added(5, 2), added(7, 2))
    assert oracle.comments_of[10] == {5, 7}
    deleted = comments_pb2.CommentDeleted(comment_id=5, media_id=10, author_id=2)
    oracle.apply(deleted, number=5)
    assert oracle.count_comments(10) == 2
    deleted.author_id = 1
    oracle.apply(deleted, number=6)
    oracle.apply(added(5, 1), number=7)
    assert oracle.comments_of[10] == {7}
    assert oracle.comments[5].deleted
