"""What `comments.project` and CaptionEdited do to rows, and which events they refuse."""

from typing import Any

import pytest
from google.protobuf.message import Message

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.partitioner import key_of
from millrace.stores.changes import EdgeChange, RowCreate, RowEnd, RowUpdate
from millrace.views import comments, media
from social.log.v1 import comments_pb2 as log
from social.log.v1.media_pb2 import CaptionEdited, CaptionText

ANA, ITEM, COMMENT = 7, 70, 700


def event(message: Message, *, key: int = ANA, text: bytes = b"") -> Event:
    return Event("comments", 0, number=5, order=5, key=key_of(key), message=message, text=text)


def added(**changed: int) -> log.CommentAdded:
    fields: dict[str, Any] = {"comment_id": COMMENT, "media_id": ITEM, "author_id": ANA, **changed}
    return log.CommentAdded(
        **fields, at_ms=9, request_id=b"r" * 16, body_sha256=b"b" * 32, mentioned_ids=[3, 0]
    )


def deleted(**changed: int) -> log.CommentDeleted:
    fields = {"comment_id": COMMENT, "media_id": ITEM, "author_id": ANA, "at_ms": 9, **changed}
    return log.CommentDeleted(**fields, deleted_by=2)


def test_a_comment_is_a_claimed_row_and_then_an_item_of_the_timeline() -> None:
    text = log.CommentText(text="well said").SerializeToString()
    (change,) = comments.project(event(added(), text=text))
    assert isinstance(change, RowCreate)
    assert (change.key, change.values["text"]) == ((COMMENT,), "well said")
    assert change.claim == (ANA, b"r" * 16, b"b" * 32)
    assert change.then == (EdgeChange("comments_by_media", ITEM, COMMENT, True, 5, 5, 9),)


def test_a_comment_ends_only_for_its_author_and_its_item() -> None:
    (change,) = comments.project(event(deleted()))
    assert isinstance(change, RowEnd)
    assert change.guard == {"author_id": ANA, "media_id": ITEM}
    assert change.then == (EdgeChange("comments_by_media", ITEM, COMMENT, False, 5, 5, 9),)


POISON = [
    event(added(), key=8),
    event(deleted(), key=8),
    event(added(author_id=0), key=0),
    event(added(comment_id=0)),
    event(added(comment_id=-1)),
    event(added(media_id=0)),
    event(deleted(media_id=0)),
    event(CaptionEdited(media_id=ITEM, author_id=ANA)),
]


@pytest.mark.parametrize("poison", POISON)
def test_an_event_that_makes_no_sense_is_poison(poison: Event) -> None:
    with pytest.raises(PoisonEvent):
        comments.project(poison)


def test_a_caption_changes_only_what_is_its_author_s() -> None:
    text = CaptionText(caption="at noon").SerializeToString()
    edited = CaptionEdited(media_id=ITEM, author_id=ANA)
    (change,) = media.project(event(edited, text=text))
    assert isinstance(change, RowUpdate)
    assert (change.key, change.values) == ((ITEM,), {"caption": "at noon"})
    assert change.guard == {"author_id": ANA}
    (removed,) = media.project(event(edited))
    assert isinstance(removed, RowUpdate)
    assert removed.values == {"caption": ""}
    with pytest.raises(PoisonEvent):
        media.project(event(edited, key=8))
