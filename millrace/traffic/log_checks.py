"""Is everything in the log that was acknowledged, once?"""

import uuid
from collections.abc import Iterator, Mapping

from millrace.traffic.check import Check
from millrace.traffic.history import History
from millrace.traffic.record import Acknowledged


def log_checks(
    acknowledged: Acknowledged, history: History, dead_before: Mapping[str, int] | None = None
) -> Iterator[Check]:
    """`dead_before`: records in the topics of dead letters before the run, where the installation
    is not a new one.
    """
    yield _registrations(acknowledged, history)
    yield _uploads(acknowledged, history)
    yield _remarks(acknowledged, history)
    yield _edges(acknowledged, history)
    yield _dead_letters(history, dead_before)


def _registrations(acknowledged: Acknowledged, history: History) -> Check:
    oracle = history.oracle
    check = Check("every acknowledged registration has its handle, every profile its update")
    for user_id, handle in acknowledged.registered.items():
        found = oracle.handle(user_id) if user_id in oracle.users else None
        check.expect(f"user {user_id}", handle, found)
    for update in acknowledged.profiles:
        check.expect(f"profile {update}", True, update in history.profiles)
    return check


def _uploads(acknowledged: Acknowledged, history: History) -> Check:
    oracle = history.oracle
    check = Check("every acknowledged upload is in the log and counts once")
    for upload in acknowledged.uploads:
        request = (upload.user_id, uuid.UUID(upload.request_id).bytes)
        check.expect(f"upload {upload}", upload.media_id, oracle.uploads.get(request))
        item = oracle.media.get(upload.media_id)
        told = (upload.user_id, upload.sha256, upload.caption)
        held = (item.author_id, item.content_sha256, item.caption) if item else None
        check.expect(f"media {upload.media_id}", told, held)
    return check


def _remarks(acknowledged: Acknowledged, history: History) -> Check:
    oracle = history.oracle
    check = Check("every acknowledged comment is in the log and counts once")
    for remark in acknowledged.remarks:
        request = (remark.user_id, uuid.UUID(remark.request_id).bytes)
        check.expect(f"comment {remark}", remark.comment_id, oracle.remarks.get(request))
        held = oracle.comments.get(remark.comment_id)
        told = (remark.media_id, remark.user_id, remark.text)
        check.expect(
            f"comment {remark.comment_id}",
            told,
            (held.media_id, held.author_id, held.text) if held else None,
        )
    return check


def _edges(acknowledged: Acknowledged, history: History) -> Check:
    """A retry may write an edge's event twice: it sets a state, so that does no harm."""
    check = Check("every acknowledged follow, unfollow, like and unlike is in the log")
    for edge, count in acknowledged.edges.items():
        check.examined += count
        missing = count - history.edges[edge]
        if missing > 0:
            check.fail(f"{missing} of {count} are missing: {edge}")
    return check


def _dead_letters(history: History, before: Mapping[str, int] | None) -> Check:
    check = Check("no event became a dead letter")
    for topic, count in history.dead_letters.items():
        check.expect(topic, (before or {}).get(topic, 0), count)
    if before is None:
        check.expect("undecodable records", 0, history.events["poison"])
    return check
