"""What people see of an event: no personal text, no secret, bounded."""

from millrace.log.described import bytes_of, described, time_of
from social.log.v1.comments_pb2 import CommentAdded
from social.log.v1.media_pb2 import MEDIA_KIND_PNG, MediaUploaded
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.vault_pb2 import VaultRecord


def test_sealed_text_is_told_and_not_shown() -> None:
    secret = Sealed(owner_id=7, box=b"do not show me, whatever you do")
    shown = dict(described(MediaUploaded(media_id=9, sealed=secret, kind=MEDIA_KIND_PNG)))
    assert shown == {
        "media_id": "9",
        "kind": "MEDIA_KIND_PNG",
        "sealed": "sealed with the data key of user 7 (31 bytes)",
    }
    assert dict(described(VaultRecord(box=b"secret"))) == {"box": "sealed (6 bytes)"}


def test_lists_and_bytes_are_bounded() -> None:
    comment = CommentAdded(mentioned_ids=range(1, 10_001), body_sha256=bytes(32), at_ms=1)
    shown = dict(described(comment))
    assert shown["mentioned_ids"] == "1, 2, 3, 4, 5, … (10000 in all)"
    assert shown["body_sha256"] == f"{'00' * 16}… (32 bytes)"
    assert shown["at_ms"] == "1970-01-01 00:00:00.001"
    assert bytes_of(b"") == "empty"


def test_a_time_that_cannot_be_is_told_in_milliseconds() -> None:
    assert time_of(1 << 62) == f"{1 << 62} ms"
