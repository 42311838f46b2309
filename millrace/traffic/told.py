"""The oracle as the calls have it: fed with what was acknowledged, without a look at the log.

For an installation of which only the RPCs can be reached. It knows the people of the run alone,
and nobody else may write to them. A write whose outcome is unknown leaves what it touched in doubt.
"""

import uuid

from millrace.oracle import Oracle
from millrace.traffic.people import display_name_by
from millrace.traffic.record import Acknowledged
from social.log.v1 import comments_pb2, follows_pb2, likes_pb2, media_pb2, names_pb2, users_pb2


def oracle_told(acknowledged: Acknowledged) -> Oracle:
    oracle = Oracle()
    for number, (user_id, handle) in enumerate(acknowledged.registered.items(), start=1):
        key = handle.encode()
        claimed = names_pb2.NameClaimed(name_key=key, user_id=user_id)
        registered = users_pb2.UserRegistered(user_id=user_id, name_key=key, claim_number=number)
        text = users_pb2.RegistrationText(handle=handle, display_name=display_name_by(handle))
        oracle.apply(claimed, number=number)
        oracle.apply(registered, number=number, text=text.SerializeToString())
    for user_id, bio in acknowledged.profiles:
        name = display_name_by(acknowledged.registered[user_id])
        profile = users_pb2.ProfileText(display_name=name, bio=bio)
        updated = users_pb2.ProfileUpdated(user_id=user_id)
        oracle.apply(updated, number=0, text=profile.SerializeToString())
    _apply_content(oracle, acknowledged)
    for (kind, user_id, target_id), live in acknowledged.standing.items():
        if live and kind == "follows":
            followed = follows_pb2.UserFollowed(follower_id=user_id, followee_id=target_id)
            oracle.apply(followed, number=0)
        elif live:
            oracle.apply(likes_pb2.MediaLiked(user_id=user_id, media_id=target_id), number=0)
    return oracle


def _apply_content(oracle: Oracle, acknowledged: Acknowledged) -> None:
    for upload in acknowledged.uploads:
        uploaded = media_pb2.MediaUploaded(
            media_id=upload.media_id,
            author_id=upload.user_id,
            request_id=uuid.UUID(upload.request_id).bytes,
            content_sha256=upload.sha256,
            size_bytes=upload.size_bytes,
        )
        caption = media_pb2.CaptionText(caption=upload.caption)
        oracle.apply(uploaded, number=0, text=caption.SerializeToString())
    for remark in acknowledged.remarks:
        added = comments_pb2.CommentAdded(
            comment_id=remark.comment_id,
            media_id=remark.media_id,
            author_id=remark.user_id,
            request_id=uuid.UUID(remark.request_id).bytes,
        )
        said = comments_pb2.CommentText(text=remark.text)
        oracle.apply(added, number=0, text=said.SerializeToString())
