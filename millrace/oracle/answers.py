"""What each RPC must answer, from the guarantees of the contract: a call in, an answer out.

    expected = answers.answer("LikeMedia", bearer, [request], seen)      raises Refused

Calls come one after another; each sees all before it. `seen` is what the server answered (an
empty response where it refused): ids, tokens and stored bytes are the server's to choose, and
how long a page is; they are taken from there after a look whether they may be so. A call that
is answered has happened in the model as well. A stream's answers are one: the header of a
download, of many likes the last acknowledgement with all refusals.

Not: fields that break their rules, times, `stale`, `pending`, receipts of feeds.
"""

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from millrace.oracle import drawn
from millrace.oracle.accounts import Accounts, name_key
from millrace.oracle.pages import Listed, Pages
from millrace.oracle.refused import Refused, refuse_if, require
from millrace.oracle.state import Oracle
from social.log.v1 import comments_pb2 as comments_log
from social.log.v1 import follows_pb2 as follows_log
from social.log.v1 import likes_pb2 as likes_log
from social.log.v1 import media_pb2 as media_log
from social.log.v1 import saves_pb2 as saves_log
from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)

OPEN_TO_ALL = ("Register", "LogIn", "RefreshToken")
NO_MEDIA = "NOT_FOUND MEDIA_NOT_FOUND"
NO_USER = "NOT_FOUND USER_NOT_FOUND"
NO_COMMENT = "NOT_FOUND COMMENT_NOT_FOUND"
REUSED = "ALREADY_EXISTS REQUEST_ID_REUSED"


@dataclass(frozen=True, slots=True)
class Content:
    """What bytes are, as somebody knows who made them. `refused`: the reason, if they are none."""

    kind: int = 0
    width: int = 0
    height: int = 0
    refused: str = ""


@dataclass(slots=True)
class Answers:
    """`contents`: of the bytes that will be uploaded, by their SHA-256."""

    followees_max: int
    contents: Mapping[bytes, Content]
    accounts: Accounts = field(default_factory=Accounts)
    pages: Pages = field(default_factory=Pages)
    _bodies: dict[tuple[int, str], bytes] = field(default_factory=dict)

    @property
    def state(self) -> Oracle:
        return self.accounts.state

    def answer(self, method: str, bearer: str, requests: Sequence[Any], seen: Any) -> Message:
        """Raises Refused."""
        request: Any = requests[0] if requests else None
        name = re.sub("(?<!^)(?=[A-Z])", "_", method).lower()
        if method in OPEN_TO_ALL:
            opened: Callable[..., Message] = getattr(self.accounts, name)
            return opened(request, seen)
        session = self.accounts.session(bearer, method=method)
        actor = session.user_id
        match method:
            case "LogOut":
                return self.accounts.log_out(session, request)
            case "ChangePassword":
                return self.accounts.change_password(actor, request, seen)
            case "DeactivateUser":
                return self.accounts.deactivate_user(actor)
            case "ReactivateUser":
                return self.accounts.reactivate_user(actor)
            case "ChangeHandle" | "UpdateProfile":
                changed: Callable[..., Message] = getattr(self.accounts, name)
                return changed(actor, request)
            case "UploadMedia" | "RecordLikes":
                streamed: Callable[..., Message] = getattr(self, f"_{name}")
                return streamed(actor, requests, seen)
            case _:
                handle: Callable[..., Message] = getattr(self, f"_{name}")
                return handle(actor, request, seen)

    # users

    def _get_users(self, actor: int, request: users_pb2.GetUsersRequest, seen: Any) -> Message:
        named = [self.state.holder(name_key(handle)) for handle in request.handles]
        ids = dict.fromkeys(one for one in (*request.user_ids, *named) if one is not None)
        found = [drawn.user(self.state, one) for one in ids if self.state.stands(one)]
        return users_pb2.GetUsersResponse(users=found)

    # media

    def _upload_media(self, actor: int, sent: Sequence[Any], seen: Any) -> Message:
        refuse_if({"INVALID_ARGUMENT UPLOAD_OUT_OF_ORDER": _out_of_order(sent)})
        header, data = sent[0].header, b"".join(message.chunk for message in sent[1:])
        body = hashlib.sha256(header.caption.encode() + b"\0" + data).digest()
        content = self.contents.get(hashlib.sha256(data).digest(), Content())
        request_id = uuid.UUID(header.request_id).bytes
        media_id = self.state.uploads.get((actor, request_id))
        differs = header.size_bytes not in (0, len(data))
        refuse_if(
            {
                "INVALID_ARGUMENT MEDIA_EMPTY": not data,
                "INVALID_ARGUMENT MEDIA_SIZE_DIFFERS": differs,
                f"INVALID_ARGUMENT {content.refused}": bool(data and content.refused),
                REUSED: media_id is not None and self._bodies[actor, header.request_id] != body,
                NO_MEDIA: media_id is not None and self.state.media[media_id].deleted,
            }
        )
        if media_id is None:
            media_id = seen.media.id
            _require_fresh(media_id, self.state.media)
            digest_bytes = hashlib.sha256().digest_size
            described = len(seen.media.sha256) == digest_bytes and seen.media.size_bytes > 0
            require(described, "an item without size or SHA-256")
            self._bodies[actor, header.request_id] = body
            uploaded = media_log.MediaUploaded(
                media_id=media_id, author_id=actor, request_id=request_id,
                kind=media_log.MediaKind.ValueType(content.kind),
                width=content.width, height=content.height,
                size_bytes=seen.media.size_bytes, content_sha256=seen.media.sha256,
            )  # fmt: skip
            self.accounts.write(uploaded, media_log.CaptionText(caption=header.caption))
        return media_pb2.UploadMediaResponse(media=drawn.item(self.state, actor, media_id))

    def _get_media(self, actor: int, request: media_pb2.GetMediaRequest, seen: Any) -> Message:
        ids = dict.fromkeys(request.media_ids)
        return media_pb2.GetMediaResponse(items=self._items(actor, filter(self.state.shows, ids)))

    def _list_user_media(self, actor: int, request: Any, seen: Any) -> Message:
        owner = request.user_id
        self._check_list("user_media", owner, request, {NO_USER: not self.state.stands(owner)})
        rows = self.state.media_of[owner]
        listed = Listed("user_media", owner, rows, self.state.shows, newest_first=True)
        ids, token = self._page(listed, request, seen.items, seen)
        items = self._items(actor, ids)
        return media_pb2.ListUserMediaResponse(items=items, next_page_token=token)

    def _download_media(self, actor: int, request: Any, seen: Any) -> Message:
        other = request.rendition not in (
            media_pb2.RENDITION_UNSPECIFIED, media_pb2.RENDITION_ORIGINAL,
        )  # fmt: skip
        hidden = not self.state.shows(request.media_id)
        refuse_if({"UNIMPLEMENTED RENDITION": other, NO_MEDIA: hidden})
        held = self.state.media[request.media_id]
        return media_pb2.DownloadMediaHeader(
            rendition=media_pb2.RENDITION_ORIGINAL,
            kind=media_pb2.MediaKind.ValueType(held.kind),
            size_bytes=held.size_bytes,
            sha256=held.content_sha256,
            width=held.width,
            height=held.height,
        )

    def _edit_caption(self, actor: int, request: Any, seen: Any) -> Message:
        media_id = request.media_id
        self._check_own(actor, media_id)
        refuse_if({NO_MEDIA: not self.state.shows(media_id)})
        edited = media_log.CaptionEdited(media_id=media_id, author_id=actor)
        self.accounts.write(edited, media_log.CaptionText(caption=request.caption))
        return media_pb2.EditCaptionResponse()

    def _delete_media(self, actor: int, request: Any, seen: Any) -> Message:
        self._check_own(actor, request.media_id)
        self.accounts.write(media_log.MediaDeleted(media_id=request.media_id, author_id=actor))
        return media_pb2.DeleteMediaResponse()

    # follows

    def _follow(self, actor: int, request: Any, seen: Any) -> Message:
        followee, follows = request.user_id, self.state.following[actor]
        full = len(follows) >= self.followees_max and followee not in follows
        refuse_if({"INVALID_ARGUMENT SELF": actor == followee})
        refuse_if({NO_USER: not self.state.stands(followee)})
        refuse_if({"FAILED_PRECONDITION FOLLOWEES_LIMIT": full})
        self.accounts.write(follows_log.UserFollowed(follower_id=actor, followee_id=followee))
        return follows_pb2.FollowResponse(state=follows_pb2.FOLLOW_STATE_FOLLOWING)

    def _unfollow(self, actor: int, request: Any, seen: Any) -> Message:
        followee = request.user_id
        refuse_if({"INVALID_ARGUMENT SELF": actor == followee})
        refuse_if({NO_USER: not self.state.stands(followee)})
        self.accounts.write(follows_log.UserUnfollowed(follower_id=actor, followee_id=followee))
        return follows_pb2.UnfollowResponse()

    def _list_followers(self, actor: int, request: Any, seen: Any) -> Message:
        listed, token = self._edge_page("followers", self.state.followers, request, seen)
        return follows_pb2.ListFollowersResponse(users=listed, next_page_token=token)

    def _list_following(self, actor: int, request: Any, seen: Any) -> Message:
        listed, token = self._edge_page("following", self.state.following, request, seen)
        return follows_pb2.ListFollowingResponse(users=listed, next_page_token=token)

    # likes

    def _like_media(self, actor: int, request: Any, seen: Any) -> Message:
        refuse_if({NO_MEDIA: not self.state.shows(request.media_id)})
        self.accounts.write(likes_log.MediaLiked(user_id=actor, media_id=request.media_id))
        return likes_pb2.LikeMediaResponse()

    def _unlike_media(self, actor: int, request: Any, seen: Any) -> Message:
        refuse_if({NO_MEDIA: not self.state.shows(request.media_id)})
        self.accounts.write(likes_log.MediaUnliked(user_id=actor, media_id=request.media_id))
        return likes_pb2.UnlikeMediaResponse()

    def _record_likes(self, actor: int, sent: Sequence[Any], seen: Any) -> Message:
        likes = [like for message in sent for like in message.likes]
        numbers = [like.sequence for like in likes]
        first = numbers[0]
        apart = numbers != list(range(first, first + len(numbers)))
        refuse_if({"INVALID_ARGUMENT RECORDING_OUT_OF_SEQUENCE": apart})
        mixed = len({message.request_id for message in sent}) > 1
        refuse_if({"INVALID_ARGUMENT RECORDING_REQUEST_ID_CHANGED": mixed})
        refused = []
        for like in likes:
            try:
                handle = self._unlike_media if like.unlike else self._like_media
                handle(actor, like, None)
            except Refused:
                refused.append(likes_pb2.RefusedLike(sequence=like.sequence, code=5))
        return likes_pb2.RecordLikesResponse(acknowledged_sequence=numbers[-1], refused=refused)

    def _list_likers(self, actor: int, request: Any, seen: Any) -> Message:
        media_id = request.media_id
        self._check_list("likers", media_id, request, {NO_MEDIA: not self.state.shows(media_id)})
        listed = Listed("likers", media_id, self.state.likers[media_id], self.state.stands)
        ids, token = self._page(listed, request, seen.users, seen)
        users = [drawn.summary(self.state, one) for one in ids]
        return likes_pb2.ListLikersResponse(users=users, next_page_token=token)

    # comments

    def _add_comment(self, actor: int, request: Any, seen: Any) -> Message:
        key = (actor, request.request_id)
        body = repr((request.media_id, request.text)).encode()
        request_id = uuid.UUID(request.request_id).bytes
        comment_id = self.state.remarks.get((actor, request_id))
        deleted = comment_id is not None and self.state.comments[comment_id].deleted
        refuse_if(
            {
                NO_MEDIA: not self.state.shows(request.media_id),
                REUSED: comment_id is not None and self._bodies[key] != body,
                NO_COMMENT: deleted,
            }
        )
        if comment_id is None:
            comment_id = seen.comment.id
            _require_fresh(comment_id, self.state.comments)
            self._bodies[key] = body
            meant = map(self._meant, drawn.handles_in(request.text))
            added = comments_log.CommentAdded(
                comment_id=comment_id, media_id=request.media_id, author_id=actor,
                request_id=request_id, mentioned_ids=meant,
            )  # fmt: skip
            self.accounts.write(added, comments_log.CommentText(text=request.text))
        return comments_pb2.AddCommentResponse(comment=drawn.comment(self.state, comment_id))

    def _delete_comment(self, actor: int, request: Any, seen: Any) -> Message:
        comment = self.state.comments.get(request.comment_id)
        if comment is None or comment.media_id != request.media_id:
            raise Refused(NO_COMMENT, NO_MEDIA)
        if comment.author_id != actor:
            # The item's author may, and again; to others it must be there to be forbidden.
            refuse_if({NO_MEDIA: not self.state.shows(comment.media_id)})
            moderates = self.state.media[comment.media_id].author_id == actor
            hidden = not self.state.stands(comment.author_id)
            again = comment.deleted and moderates
            refuse_if({NO_COMMENT: (hidden or comment.deleted) and not again})
            refuse_if({"PERMISSION_DENIED NOT_THE_AUTHOR": not moderates})
        deleted = comments_log.CommentDeleted(
            comment_id=request.comment_id, media_id=comment.media_id,
            author_id=comment.author_id, deleted_by=actor,
        )  # fmt: skip
        self.accounts.write(deleted)
        return comments_pb2.DeleteCommentResponse()

    def _list_comments(self, actor: int, request: Any, seen: Any) -> Message:
        media_id, state = request.media_id, self.state
        self._check_list("comments", media_id, request, {NO_MEDIA: not state.shows(media_id)})
        listed = Listed(
            "comments", media_id, state.comments_of[media_id],
            lambda one: state.stands(state.comments[one].author_id), newest_first=True,
        )  # fmt: skip
        ids, token = self._page(listed, request, seen.comments, seen)
        comments = [drawn.comment(state, one) for one in ids]
        return comments_pb2.ListCommentsResponse(comments=comments, next_page_token=token)

    # saves

    def _save_media(self, actor: int, request: Any, seen: Any) -> Message:
        refuse_if({NO_MEDIA: not self.state.shows(request.media_id)})
        self.accounts.write(saves_log.MediaSaved(user_id=actor, media_id=request.media_id))
        return saves_pb2.SaveMediaResponse()

    def _unsave_media(self, actor: int, request: Any, seen: Any) -> Message:
        media_id = request.media_id
        his = media_id in self.state.saved[actor]
        refuse_if({NO_MEDIA: not his and not self.state.shows(media_id)})
        self.accounts.write(saves_log.MediaUnsaved(user_id=actor, media_id=media_id))
        return saves_pb2.UnsaveMediaResponse()

    def _list_saved(self, actor: int, request: Any, seen: Any) -> Message:
        self._check_list("saved", actor, request, {})
        saved = self.state.saved[actor]
        listed = Listed("saved", actor, saved, self.state.shows, newest_first=True)
        ids, token = self._page(listed, request, seen.items, seen)
        items = self._items(actor, ids)
        return saves_pb2.ListSavedResponse(
            items=items, next_page_token=token, saves_count=len(saved)
        )

    # feed

    def _get_feed(self, actor: int, request: Any, seen: Any) -> Message:
        self._check_list("feed", actor, request, {})
        authors = {actor} | self.state.following[actor]
        rows = [one for author in authors for one in self.state.media_of[author]]
        listed = Listed("feed", actor, rows, self.state.shows, newest_first=True)
        ids, token = self._page(listed, request, seen.items, seen)
        return feed_pb2.GetFeedResponse(items=self._items(actor, ids), next_page_token=token)

    # of several

    def _items(self, viewer: int, ids: Iterable[int]) -> list[media_pb2.MediaItem]:
        return [drawn.item(self.state, viewer, one) for one in ids]

    def _meant(self, handle: str) -> int:
        """Whose handle it is, hidden or not; 0 where it is nobody's."""
        return self.state.holder(name_key(handle)) or 0

    def _check_own(self, actor: int, media_id: int) -> None:
        """What others cannot see is not there for them, and what they see is not theirs."""
        item = self.state.media.get(media_id)
        mine = item is not None and item.author_id == actor
        refuse_if({NO_MEDIA: not mine and not self.state.shows(media_id)})
        refuse_if({"PERMISSION_DENIED NOT_THE_AUTHOR": not mine})

    def _check_list(self, kind: str, owner: int, request: Any, broken: dict[str, bool]) -> None:
        refuse_if(broken | self.pages.refusals(kind, owner, request.page_token))

    def _page(
        self, listed: Listed, request: Any, shown: Iterable[Any], seen: Any
    ) -> tuple[list[int], str]:
        seen_ids = [one.id for one in shown]
        return self.pages.page(listed, request, seen_ids, seen.next_page_token)

    def _edge_page(
        self, kind: str, edges: Mapping[int, set[int]], request: Any, seen: Any
    ) -> tuple[list[users_pb2.UserSummary], str]:
        owner = request.user_id
        self._check_list(kind, owner, request, {NO_USER: not self.state.stands(owner)})
        listed = Listed(kind, owner, edges.get(owner, set()), self.state.stands)
        ids, token = self._page(listed, request, seen.users, seen)
        return [drawn.summary(self.state, one) for one in ids], token


def _out_of_order(sent: Sequence[Any]) -> bool:
    """A header comes first, and once."""
    kinds = [message.WhichOneof("part") for message in sent]
    return kinds[:1] != ["header"] or "header" in kinds[1:]


def _require_fresh(created_id: int, held: Mapping[int, object]) -> None:
    fresh = created_id > 0 and created_id not in held
    require(fresh, f"id {created_id} was given out twice, or is none")
